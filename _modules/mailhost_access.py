"""Look at keys and logins; put keys in place."""

import os
import pathlib
import pwd
import re
import time

from salt.exceptions import CommandExecutionError

import mailhost_access

__all__ = ["came_in_as", "keys", "login_evidence", "set_keys", "sshd_effective"]


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
    if directory.is_symlink():
        raise CommandExecutionError(f"{directory}: is a symbolic link; remove it")
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
    pid = os.getpid()
    while pid > 1:
        process = pathlib.Path(f"/proc/{pid}")
        command = process.joinpath("cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        session = re.match(r"sshd(?:-session)?: ([a-z_][a-z0-9_-]*)(?:@\S+)?$", command)
        if session and process.stat().st_uid == pwd.getpwnam(session.group(1)).pw_uid:
            return session.group(1)
        pid = int(re.search(r"^PPid:\t(\d+)", process.joinpath("status").read_text(), re.MULTILINE).group(1))
    return ""


def login_evidence(name, keys):
    """Return what proves that an account can log in by one of these keys and use sudo, "" when nothing does.

    This very run counts when it came in that way. Else the journal since the keys were last changed: a login by key,
    and a sudo after it.

    name, keys
        The account and its public keys.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.login_evidence phalkonadmin '["ssh-ed25519 AAAA…"]'
    """
    if came_in_as() == name and os.environ.get("SUDO_USER") == name and os.getuid() == 0:
        return f"this run came in as {name} and became root by sudo"
    try:
        since = os.stat(f"{pwd.getpwnam(name).pw_dir}/.ssh/authorized_keys").st_mtime
    except (KeyError, FileNotFoundError):
        return ""
    journal = __salt__["mailhost_run.program"](
        ["journalctl", "-q", "-o", "json", "--since", f"@{since:.6f}", "-t", "sshd-session", "-t", "sshd", "-t", "sudo"]
    )
    found = mailhost_access.logins(journal, name, [mailhost_access.fingerprint(key) for key in keys])
    if not found:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(int(found[-1]["time"]) / 1e6))
    return f"{name} logged in from {found[-1]['from']} with {found[-1]['key']} and used sudo at {when}"


def sshd_effective(user, address="192.0.2.1"):
    """Return the settings that sshd applies to a login, by lower-case name, lists for those that can stand twice.

    user, address
        Who would log in and from where; Match blocks count.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_access.sshd_effective phalkonadmin
    """
    # sshd -T refuses without it when sshd is not running (Debian makes it with the service).
    pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    found = {}
    connection = f"user={user},host={address},addr={address},laddr={address},lport=22"
    for line in __salt__["mailhost_run.program"](["sshd", "-T", "-C", connection]).splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found
