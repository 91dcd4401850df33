"""Look at sudo's files and change them."""

import os
import pathlib
import time

from salt.exceptions import CommandExecutionError

import mailhost_sudo

__all__ = ["files", "passwordless", "put", "put_away", "refusal", "unpackaged"]

MAIN = pathlib.Path(mailhost_sudo.MAIN)
DIRECTORY = pathlib.Path(mailhost_sudo.DIRECTORY)
CVTSUDOERS = pathlib.Path("/usr/bin/cvtsudoers")
ATTIC = pathlib.Path("/var/backups/mailhost/sudoers.d")


def files():
    """Return the texts of all sudoers files by path.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.files
    """
    there = [path for path in (MAIN, *sorted(DIRECTORY.glob("*"))) if path.is_file()]
    return {str(path): path.read_text(encoding="utf-8", errors="surrogateescape") for path in there}


def put(path, text, admin=None):
    """Put a sudoers file in place, or remove it when nothing is left of it; visudo reads it before.

    admin
        An account whose sudo is tried before and after: when it worked and does not any more, the old file is put back.

    Raises CommandExecutionError when the file is refused or had to be put back.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.put /etc/sudoers.d/90-x '%sudo ALL=(ALL:ALL) ALL'
    """
    worked = admin is not None and not refusal(admin)
    old = files().get(path)
    _write(path, text)
    if worked and (words := refusal(admin)):
        _write(path, old)
        raise CommandExecutionError(f"{path}: put back, for {admin} would have lost sudo without a password: {words}")


def refusal(name):
    """Return why an account does not become root by sudo without a password, "" when it does: it is tried.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.refusal phalkonadmin
    """
    try:
        __salt__["mailhost_run.program"](["runuser", "-u", name, "--", "sudo", "-n", "true"], timeout=60)
    except CommandExecutionError as error:
        return str(error)
    return ""


def unpackaged(names):
    """Return those of sudoers.d's names that no package put there.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.unpackaged '["90-cloud-init-users"]'
    """
    # dpkg-query(1): -S ends with 1 when no package owns the file.
    ask = ["dpkg-query", "-S"]
    return [name for name in names if not __salt__["mailhost_run.program"]([*ask, str(DIRECTORY / name)], codes=(0, 1))]


def put_away(names):
    """Move files of sudoers.d to /var/backups/mailhost, so that what they said is not lost.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.put_away '["old-rule"]'
    """
    ATTIC.mkdir(mode=0o700, parents=True, exist_ok=True)
    ATTIC.parent.chmod(0o700)
    for name in names:
        os.replace(DIRECTORY / name, ATTIC / f"{name}.{time.strftime('%Y%m%dT%H%M%S')}")


def passwordless():
    """Return who may run something without a password, as sudo itself reads its files; nobody when there is no sudo.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sudo.passwordless
    """
    if not CVTSUDOERS.exists():
        return []
    return mailhost_sudo.passwordless(__salt__["mailhost_run.program"]([str(CVTSUDOERS), "-f", "json", str(MAIN)]))


def _write(path, text):
    """Put a sudoers file in place, or remove it when there is no text for it."""
    if text:
        __salt__["mailhost_file.replace"](path, text, mode=0o440, check=["visudo", "-cf"])
    else:
        os.unlink(path)
