"""Look at accounts and change them: passwd, group and shadow are read once, written by Debian's own tools."""

import grp
import os
import pathlib
import pwd
import shutil
import signal
import stat
import time

from salt.exceptions import CommandExecutionError

import mailhost_accounts

__all__ = [
    "add",
    "add_group",
    "ageing",
    "ageless",
    "change",
    "logged_in_as",
    "make_private",
    "read",
    "refuse_shell",
    "remove",
    "startup_files",
    "traces",
]

# File systems whose files keep an owner over a reboot, or are somebody's scratch space.
OWNED = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "overlay", "tmpfs", "vfat"}


def read():
    """Return all users and groups of the host by name.

    A user has uid, gid, shell, home, home_exists, locked and password_hash (never shown by any state); a group has gid
    and members.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.read
    """
    hashes = {}
    with open("/etc/shadow", encoding="utf-8") as shadow:
        for line in shadow:
            name, password_hash = line.split(":")[:2]
            hashes[name] = password_hash
    groups = {group.gr_name: {"gid": group.gr_gid, "members": list(group.gr_mem)} for group in grp.getgrall()}
    users = {}
    for user in pwd.getpwall():
        password_hash = hashes.get(user.pw_name, "!")
        users[user.pw_name] = {
            "uid": user.pw_uid,
            "gid": user.pw_gid,
            "shell": user.pw_shell,
            "home": user.pw_dir,
            "home_exists": os.path.isdir(user.pw_dir),
            "locked": password_hash[:1] in ("!", "*"),
            "password_hash": password_hash,
        }
    return {"users": users, "groups": groups}


def refuse_shell(shell):
    """Raise CommandExecutionError when a login shell cannot be run: usermod takes it, sshd lets nobody in then.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.refuse_shell /usr/bin/zsh
    """
    if not (os.path.isfile(shell) and os.stat(shell).st_mode & 0o111):
        raise CommandExecutionError(
            f"access.admin.shell: {shell} is no executable file on the host: install it there, or declare another shell"
        )


def add(name, uid, shell, home, groups, password_hash=None):
    """Make an account with a group of its own; without a hash its password is locked.

    Raises CommandExecutionError with useradd's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.add ada 1001 /bin/bash /home/ada '["sudo"]'
    """
    run = __salt__["mailhost_run.program"]
    if name not in [group.gr_name for group in grp.getgrall()]:
        run(["groupadd", "-g", str(uid), name])
    elif grp.getgrnam(name).gr_gid != uid:
        run(["groupmod", "-g", str(uid), name])
    keep = ["-M"] if os.path.isdir(home) else ["-m"]
    run(["useradd", "-u", str(uid), "-g", name, "-G", ",".join(groups), "-s", shell, "-d", home, *keep, name])
    if keep == ["-M"]:
        _give(home, uid)
    if password_hash:
        _set_password(name, password_hash)


def change(name, changes, wanted):
    """Make the changes that ``mailhost_accounts.plan_present`` found.

    The id of an account that is in use can be changed: usermod(8) refuses while it sees processes of the account, and
    the run itself may be one, so it works where it sees none. Files of the old id follow, on all file systems of the
    host.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.change ada '{"shell": {"new": "/bin/sh"}}' '{"shell": "/bin/sh"}'
    """
    run = __salt__["mailhost_run.program"]
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    if "group" in changes:
        old = changes["group"]["old"]
        run(
            ["groupadd", "-g", str(wanted["uid"]), name]
            if old is None
            else ["groupmod", "-g", str(wanted["uid"]), name]
        )
        if old is not None:
            _move_files(group=(old, wanted["uid"]))
    if "uid" in changes:
        run([*alone, "usermod", "-u", str(wanted["uid"]), name])
        _move_files(user=(changes["uid"]["old"], wanted["uid"]))
    if "gid" in changes:
        run([*alone, "usermod", "-g", name, name])
    if "shell" in changes:
        run([*alone, "usermod", "-s", wanted["shell"], name])
    if "home" in changes:
        if changes["home"]["old"] is not None:
            run([*alone, "usermod", "-d", wanted["home"], "-m", name])
        else:
            run([*alone, "usermod", "-d", wanted["home"], name])
            if not os.path.isdir(wanted["home"]):
                run(["mkhomedir_helper", name, "0077"])
    if "groups" in changes:
        run(["usermod", "-a", "-G", changes["groups"]["new"].replace(" ", ""), name])
    if "password" in changes:
        if wanted["password_hash"] is None:
            run(["usermod", "-L", name])
        else:
            _set_password(name, wanted["password_hash"])


def add_group(name):
    """Make a system group without members.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.add_group sugroup
    """
    __salt__["mailhost_run.program"](["groupadd", "--system", name])


def ageing():
    """Return the accounts without a password whose login ends one day all the same.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.ageing
    """
    with open("/etc/shadow", encoding="utf-8") as shadow:
        return mailhost_accounts.ageing(shadow.read())


def ageless(name):
    """Let an account's login never end.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.ageless phalkonadmin
    """
    __salt__["mailhost_run.program"](["chage", "-M", "-1", "-I", "-1", name])


def startup_files(homes=None):
    """Return the files with a dot in people's homes that others may read, change or run, and their modes.

    homes
        The directories looked at; those of all accounts of people without it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.startup_files
    """
    # login.defs(5), UID_MIN and UID_MAX: who is a person.
    people = homes or [user.pw_dir for user in pwd.getpwall() if 1000 <= user.pw_uid < 60000]
    found = {}
    for home in people:
        for entry in os.scandir(home) if os.path.isdir(home) else ():
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            if entry.name.startswith(".") and entry.is_file(follow_symlinks=False) and mode & 0o137:
                found[entry.path] = f"{mode:04o}"
    return found


def make_private(path):
    """Let a file be for its owner to change and for its group to read; a symbolic link is refused.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.make_private /home/phalkonadmin/.profile
    """
    found = __salt__["mailhost_file.look"](path, text=False)
    __salt__["mailhost_file.give"](path, found["user"], found["group"], "0640")


def traces(name):
    """Return what an account has left or holds on the host, by kind, each with its paths.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.traces linuxuser
    """
    found = {}
    paths = {
        "mail spool": f"/var/mail/{name}",
        "crontab": f"/var/spool/cron/crontabs/{name}",
        "lingering": f"/var/lib/systemd/linger/{name}",
    }
    for kind, path in paths.items():
        if os.path.lexists(path):
            found[kind] = [path]
    home = f"/home/{name}"
    if os.path.lexists(home):
        if os.path.ismount(home):
            raise CommandExecutionError(f"{home}: is a file system of its own; unmount it before {name} is removed")
        found["home"] = [home]
    return found


def logged_in_as():
    """Return the account this run came in by: who called sudo, or who runs it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.logged_in_as
    """
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def remove(name, traces):
    """End an account's processes and sessions, remove it, and all its traces.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.remove linuxuser '{"home": ["/home/linuxuser"]}'
    """
    run = __salt__["mailhost_run.program"]
    for path in traces.get("lingering", ()):
        os.unlink(path)
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        uid = None
    if uid is not None:
        _end_processes(uid)
        # -f: a session that is just ending must not stop the removal; its processes are gone.
        run(["userdel", "-f", name])
    if name in [group.gr_name for group in grp.getgrall()]:
        run(["groupdel", name])
    for kind in ("mail spool", "crontab"):
        for path in traces.get(kind, ()):
            if os.path.lexists(path):
                os.unlink(path)
    for path in traces.get("home", ()):
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.lexists(path):
            shutil.rmtree(path)


def _set_password(name, password_hash):
    __salt__["mailhost_run.program"](["chpasswd", "-e"], stdin=f"{name}:{password_hash}\n")


def _give(path, uid):
    """Give a directory that was there before the account to it, not what is inside."""
    os.chown(path, uid, uid)


def _end_processes(uid):
    """End all processes of a user: asked first, killed after three seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + 3
        while pids := _processes(uid):
            if time.monotonic() > until:
                break
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)


def _processes(uid):
    """Return the ids of a user's processes."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    found.append(int(entry.name))
            except FileNotFoundError:
                continue
    return found


def _move_files(user=None, group=None):
    """Let files follow a user's or group's id from old to new, on every file system that keeps owners."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        fields = [line.split() for line in mounts]
    for mount in fields:
        path, kind = mount[4], mount[mount.index("-") + 1]
        if kind in OWNED and not path.startswith(("/proc", "/sys")):
            device = os.stat(path).st_dev
            for base, directories, files in os.walk(path):
                directories[:] = [entry for entry in directories if os.lstat(f"{base}/{entry}").st_dev == device]
                for entry in [base, *(f"{base}/{file}" for file in (*files, *directories))]:
                    _move_file(entry, user, group)


def _move_file(path, user, group):
    """Change the owner of one file from old to new; chown(2) clears setuid and setgid, so they are set again."""
    try:
        status = os.lstat(path)
        uid = user[1] if user and status.st_uid == user[0] else -1
        gid = group[1] if group and status.st_gid == group[0] else -1
        if (uid, gid) != (-1, -1):
            os.lchown(path, uid, gid)
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                os.chmod(path, stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        return
