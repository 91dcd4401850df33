"""Look at accounts and change them: passwd, group and shadow are read once, written by Debian's own tools."""

import grp
import json
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
    "moves",
    "read",
    "refuse_shell",
    "remove",
    "startup_files",
    "traces",
]

MOVES = pathlib.Path(mailhost_accounts.MOVES)


def read():
    """Return all users and groups of the host by name.

    A user has uid, gid, shell, home, home_exists, home_uid, locked and password_hash (never shown by any state); a
    group has gid and members.

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
            "home_uid": os.stat(user.pw_dir).st_uid if os.path.isdir(user.pw_dir) else None,
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
    """Make an account with a group of its own; without a hash its password is locked. Its login never ends.

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
    # Whatever login.defs and default/useradd say of a password's age: a login by key must not end with it.
    ageless = ["-K", "PASS_MAX_DAYS=-1", "-f", "-1"]
    words = ["-u", str(uid), "-g", name, "-G", ",".join(groups), "-s", shell, "-d", home, *keep, *ageless]
    run(["useradd", *words, name])
    if keep == ["-M"]:
        _give(home, uid)
    if password_hash:
        _set_password(name, password_hash)


def change(name, changes, wanted):
    """Make the changes that ``mailhost_accounts.plan_present`` found.

    The id of an account that is in use can be changed: usermod(8) refuses while it sees processes of the account, and
    the run itself may be one, so it works where it sees none. Files of the old id follow, on all file systems of the
    host. Which ids they follow is noted on disk until they all have: the next run goes on where this one was stopped.

    Raises CommandExecutionError with the program's words, or with how many files could not follow.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.change ada '{"shell": {"new": "/bin/sh"}}' '{"shell": "/bin/sh"}'
    """
    run = __salt__["mailhost_run.program"]
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    following = mailhost_accounts.with_moves(moves(name), changes, wanted["uid"])
    if any(following.values()):
        _note_moves({**_noted(), name: following})
    if "group" in changes:
        tool = "groupadd" if changes["group"]["old"] is None else "groupmod"
        run([tool, "-g", str(wanted["uid"]), name])
    if "uid" in changes:
        run([*alone, "usermod", "-u", str(wanted["uid"]), name])
    if any(following.values()):
        _move_files(following, wanted["uid"])
    if name in _noted():
        _note_moves({other: ids for other, ids in _noted().items() if other != name})
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
    if "owner" in changes:
        _give(wanted["home"], wanted["uid"])
    if "groups" in changes:
        run(["usermod", "-a", "-G", changes["groups"]["new"].replace(" ", ""), name])
    if "password" in changes:
        if wanted["password_hash"] is None:
            run(["usermod", "-L", name])
        else:
            _set_password(name, wanted["password_hash"])


def moves(name):
    """Return the ids whose files were to follow when an account's id was changed, and did not all: a list by kind.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.moves phalkonadmin
    """
    return _noted().get(name, {})


def add_group(name):
    """Make a system group without members.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.add_group sugroup
    """
    __salt__["mailhost_run.program"](["groupadd", "--system", name])


def ageing(passwords=None):
    """Return the accounts without a password whose login ends one day all the same.

    passwords
        Hashes by account, where they will be others than now.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_accounts.ageing
    """
    with open("/etc/shadow", encoding="utf-8") as shadow:
        return mailhost_accounts.ageing(shadow.read(), passwords or {})


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


def _noted():
    """Return which files are still to follow, by account."""
    return json.loads(MOVES.read_text(encoding="utf-8")) if MOVES.exists() else {}


def _note_moves(noted):
    """Note which files are still to follow, by account; nothing is left when there are none."""
    if noted:
        MOVES.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        __salt__["mailhost_file.replace"](str(MOVES), json.dumps(noted), mode=0o600)
    else:
        __salt__["mailhost_file.remove"](str(MOVES))


def _move_files(following, new):
    """Let files follow a user's and a group's ids to the new one, on every file system that keeps owners.

    What cannot be reached or given is passed over, and said in the end.
    """
    failures = []
    mountinfo = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    for mount in mailhost_accounts.owned_mounts(mountinfo):
        for path in _below(mount, failures):
            try:
                _move_file(path, following, new)
            except OSError as error:
                failures.append(error)
    # What is gone, or hidden by another mount, needs no owner; and a file that is a mount point has nothing below it.
    failures = [error for error in failures if not isinstance(error, (FileNotFoundError, NotADirectoryError))]
    if failures:
        raise CommandExecutionError(
            f"{len(failures)} paths with {mailhost_accounts.said(following)} could not be given to id {new}, the first:"
            f" {failures[0].filename}: {failures[0].strerror.lower()}; put that right and apply again"
        )


def _below(mount, failures):
    """Yield where a file system is mounted and all paths of it; directories that cannot be read are failures."""
    try:
        device = os.stat(mount).st_dev
    except OSError as error:
        failures.append(error)
        return
    yield mount
    for base, directories, files in os.walk(mount, onerror=failures.append):
        directories[:] = [entry for entry in directories if _device(f"{base}/{entry}", failures) == device]
        yield from (f"{base}/{entry}" for entry in (*files, *directories))


def _device(path, failures):
    try:
        return os.lstat(path).st_dev
    except OSError as error:
        failures.append(error)
        return None


def _move_file(path, following, new):
    """Change the owner of one file to the new id; chown(2) clears setuid and setgid, so they are set again."""
    status = os.lstat(path)
    uid = new if status.st_uid in following["user"] else -1
    gid = new if status.st_gid in following["group"] else -1
    if (uid, gid) != (-1, -1):
        os.lchown(path, uid, gid)
        if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(status.st_mode))
