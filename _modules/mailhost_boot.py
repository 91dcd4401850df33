"""Look at GRUB and let it make its menu anew."""

import os

import mailhost_boot

__all__ = ["look", "write"]


def look():
    """Return whether GRUB starts this host, and the texts of our files and of the menu, with the password's hash.

    A script that GRUB would not run, or that others can read, counts as another one.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_boot.look
    """
    file = __salt__["mailhost_file.look"]
    lock = file(mailhost_boot.LOCK)
    right = (lock.get("user"), lock.get("mode")) == ("root", "0700")
    return {
        "grub": os.path.exists(mailhost_boot.UPDATE),
        "file": file(mailhost_boot.FILE).get("text"),
        "lock": lock.get("text") if right else lock.get("kind"),
        "menu": file(mailhost_boot.MENU).get("text") or "",
    }


def write(text, lock):
    """Put our files in place, or take them away (None), and have the menu made: GRUB tries it before it is the menu.

    text
        Of the file with the kernel's words.
    lock
        Of the script with the menu's password. It and the menu are nobody else's to read then.

    Raises CommandExecutionError with update-grub's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_boot.write 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX apparmor=1"' null
    """
    for path, wanted, mode in ((mailhost_boot.FILE, text, 0o644), (mailhost_boot.LOCK, lock, 0o700)):
        if wanted is not None:
            directory = os.path.dirname(path)
            if not os.path.isdir(directory):
                __salt__["mailhost_file.make_directory"](directory)
            __salt__["mailhost_file.replace"](path, wanted, mode=mode)
        elif os.path.exists(path):
            __salt__["mailhost_file.remove"](path)
    # It is written into as it stands there.
    if lock is not None and os.path.exists(mailhost_boot.MENU):
        os.chmod(mailhost_boot.MENU, 0o600)
    __salt__["mailhost_run.program"]([mailhost_boot.UPDATE])
