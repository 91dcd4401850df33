"""Look at files and replace them whole."""

import grp
import os
import pathlib
import pwd
import shutil
import stat
import tempfile

from salt.exceptions import CommandExecutionError

__all__ = ["give", "give_all", "look", "make_directory", "remove", "replace", "tried", "tried_together"]


def look(path, text=True):
    """Return what is at a path: kind (None, file, directory, link, special file), mode, user, group, a file's text.

    text
        Whether a file is read.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.look /etc/sudoers.d/90-nopasswd-sudo
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": None}
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    found = {
        "kind": kinds.get(stat.S_IFMT(status.st_mode), "special file"),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "user": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
    }
    if found["kind"] == "file" and text:
        found["text"] = pathlib.Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    return found


def tried(path, text, check):
    """Let a program read a text before it becomes a file; ``check`` is its argument list, the text's path is added.

    Nothing is said when the program is not there (yet). Raises CommandExecutionError with the program's words when it
    refuses the text.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.tried /etc/sudoers.d/x 'ada ALL=(ALL) ALL' '["visudo", "-cf"]'
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape") as copy:
        copy.write(text)
        copy.flush()
        _accepted(path, check, copy.name)


def tried_together(directory, texts, check):
    """Let a program read a directory with new files in it before they are put there.

    directory
        Its path; the program gets a copy of it.
    texts
        The new files' texts, by path below the directory.
    check
        The program's argument list; the copy's path is added.

    Raises CommandExecutionError with the program's words when it refuses them.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.tried_together /etc/fail2ban '{"jail.local": ""}' '["fail2ban-client", "-t", "-c"]'
    """
    with tempfile.TemporaryDirectory(prefix="mailhost.") as temporary:
        copy = f"{temporary}/{os.path.basename(directory)}"
        if os.path.isdir(directory):
            shutil.copytree(directory, copy, symlinks=True)
        for path, text in texts.items():
            os.makedirs(os.path.dirname(f"{copy}/{path}"), exist_ok=True)
            pathlib.Path(copy, path).unlink(missing_ok=True)
            pathlib.Path(copy, path).write_text(text, encoding="utf-8", errors="surrogateescape")
        _accepted(directory, check, copy)


def replace(path, text, user="root", group="root", mode=0o644, check=None):
    """Put a file in place whole, in one step, and safe on disk: at no time is there half of it, or none.

    The new file is never readable by more than the old one: it is made with 0600 and gets its owner and mode before its
    name. Raises CommandExecutionError when ``check`` refuses the text or the directory is missing.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.replace /etc/motd 'hello'
    """
    if check:
        tried(path, text, check)
    directory = os.path.dirname(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=".mailhost.", dir=directory)
    except OSError as error:
        raise CommandExecutionError(f"{path}: {directory}: {error.strerror.lower()}") from None
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchown(stream.fileno(), _number(pwd.getpwnam, user), _number(grp.getgrnam, group))
            os.fchmod(stream.fileno(), mode if isinstance(mode, int) else int(mode, 8))
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync(directory)


def give(path, user, group, mode):
    """Give a file or directory an owner, a group and a mode; a symbolic link is refused.

    user, group
        Names, or numbers where an id has no name.

    Raises CommandExecutionError with the reason.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.give /etc/crontab root root 0600
    """
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror.lower()}") from None
    try:
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            raise CommandExecutionError(f"{path}: is a symbolic link")
        # An O_PATH handle takes no fchmod(2); its name in /proc does, and cannot be swapped.
        os.chown(f"/proc/self/fd/{handle}", _number(pwd.getpwnam, user), _number(grp.getgrnam, group))
        os.chmod(f"/proc/self/fd/{handle}", int(mode, 8))
    finally:
        os.close(handle)


def give_all(paths):
    """Give files and directories owners and modes.

    paths
        ``owner:group mode`` by path, as for ``give``.

    Raises CommandExecutionError with the reason; those before it have been given.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.give_all '{"/etc/crontab": "root:root 0600"}'
    """
    for path, access in paths.items():
        owners, mode = access.split(" ")
        give(path, *owners.split(":"), mode)


def make_directory(path, user="root", group="root", mode="0755"):
    """Make a directory, and those above it that are missing (root's, 0755).

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.make_directory /etc/systemd/coredump.conf.d
    """
    missing = [parent for parent in (pathlib.Path(path), *pathlib.Path(path).parents) if not parent.exists()]
    for directory in reversed(missing):
        directory.mkdir()
        give(str(directory), "root", "root", "0755")
    give(path, user, group, mode)


def remove(path):
    """Remove a file.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_file.remove /etc/cron.allow
    """
    os.unlink(path)
    _sync(os.path.dirname(path))


def _accepted(path, check, copy):
    """Let a program read a copy of what is to be at a path; nothing is said when the program is not there (yet)."""
    try:
        __salt__["mailhost_run.program"]([*check, copy])
    except CommandExecutionError as error:
        if "no such file or directory" in str(error) and str(error).startswith(f"{check[0]}:"):
            return
        raise CommandExecutionError(f"{path}: not replaced: {str(error).replace(copy, path)}") from None


def _name(lookup, number):
    """Return the name of an id, or the id in digits where it has none."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def _number(lookup, name):
    """Return the id of a name, or the id that stands in its place."""
    return int(name) if str(name).isdigit() else lookup(name)[2]


def _sync(directory):
    """Make the names in a directory safe on disk: fsync(2) of a file does not do that."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
