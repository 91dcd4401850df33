"""Look at GRUB and let it make its menu anew."""

import os

import mailhost_boot

__all__ = ["look", "write"]


def look():
    """Return whether GRUB starts this host, our file's text, and the menu's.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_boot.look
    """
    file = __salt__["mailhost_file.look"]
    return {
        "grub": os.path.exists(mailhost_boot.UPDATE),
        "file": file(mailhost_boot.FILE).get("text"),
        "menu": file(mailhost_boot.MENU).get("text") or "",
    }


def write(text):
    """Put our file in place, or take it away (None), and have the menu made; GRUB tries it before it takes its place.

    Raises CommandExecutionError with update-grub's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_boot.write 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX apparmor=1"'
    """
    if text is not None:
        directory = os.path.dirname(mailhost_boot.FILE)
        if not os.path.isdir(directory):
            __salt__["mailhost_file.make_directory"](directory)
        __salt__["mailhost_file.replace"](mailhost_boot.FILE, text)
    elif os.path.exists(mailhost_boot.FILE):
        __salt__["mailhost_file.remove"](mailhost_boot.FILE)
    __salt__["mailhost_run.program"]([mailhost_boot.UPDATE])
