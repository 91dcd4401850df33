"""Look at keys and logins; put keys in place."""

import os
import pathlib
import pwd
import time

from salt.exceptions import CommandExecutionError

import mailhost_access
import mailhost_guard

__all__ = ["came_in_as", "confirm", "keys", "login_evidence", "set_keys"]


def confirm():
    """Confirm the change of access that is armed, when this very login came in by the changed way after the change.

    Raises CommandExecutionError when nothing is armed or this login proves nothing.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.confirm
    """
    try:
        return f"{mailhost_guard.confirm(None)}: confirmed"
    except mailhost_guard.GuardError as error:
        raise CommandExecutionError(str(error)) from None


def keys(home):
    """Return the text of a home's authorized_keys, its owner and mode; text is None when there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.keys /home/phalkonadmin
    """
    return {
        "directory": __salt__["mailhost_file.look"](f"{home}/.ssh"),
        "file": __salt__["mailhost_file.look"](f"{home}/.ssh/authorized_keys"),
    }


def set_keys(name, text):
    """Put authorized_keys of an account in place, with the owner and modes that sshd's StrictModes asks for.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.set_keys phalkonadmin 'ssh-ed25519 AAAA… ada@example.org'
    """
    user = pwd.getpwnam(name)
    directory = pathlib.Path(user.pw_dir, ".ssh")
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, user.pw_uid, user.pw_gid)
    directory.chmod(0o700)
    __salt__["mailhost_file.replace"](f"{directory}/authorized_keys", text, name, name, 0o600)


def came_in_as():
    """Return who this run is logged in as over ssh, "" when it did not come in that way.

    sshd names the session's process after the account: that is the host's word, where an environment variable is only
    the caller's.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.came_in_as
    """
    login = mailhost_guard.session()
    return login["user"] if login else ""


def login_evidence(name, keys):
    """Return what proves that an account can log in by one of these keys and use sudo, "" when nothing does.

    This very run counts when it came in that way after the keys were last changed. Else the journal since then: a login
    by key, and a sudo after it.

    name, keys
        The account and its public keys.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.login_evidence phalkonadmin '["ssh-ed25519 AAAA…"]'
    """
    try:
        since = os.stat(f"{pwd.getpwnam(name).pw_dir}/.ssh/authorized_keys").st_mtime
    except (KeyError, FileNotFoundError):
        return ""
    login = mailhost_guard.session()
    by_sudo = os.environ.get("SUDO_USER") == name and os.getuid() == 0
    if login and login["user"] == name and by_sudo and mailhost_guard.moment(login["began"]) > since:
        return f"this run came in as {name} and became root by sudo"
    journal = __salt__["mailhost_run.program"](
        ["journalctl", "-q", "-o", "json", "--since", f"@{since:.6f}", "-t", "sshd-session", "-t", "sshd", "-t", "sudo"]
    )
    found = mailhost_access.logins(journal, name, [mailhost_access.fingerprint(key) for key in keys])
    if not found:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(int(found[-1]["time"]) / 1e6))
    return f"{name} logged in from {found[-1]['from']} with {found[-1]['key']} and used sudo at {when}"
