"""Look at the directories of mail and databases."""

import os
import stat

import mailhost_storage

__all__ = ["access", "add_vmail", "quota"]


def access(paths):
    """Return ``uid:gid mode`` of directories, and whether the database's is empty, by path.

    Those that are not there are left out.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_storage.access '["/var/mail/vmail"]'
    """
    found = {}
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        found[path] = {
            "access": f"{status.st_uid}:{status.st_gid} {stat.S_IMODE(status.st_mode):04o}",
            "empty": path == mailhost_storage.DATA and not os.listdir(path),
        }
    return found


def add_vmail(uid, group):
    """Make the account that all mail belongs to; nobody logs in as it.

    uid
        Its id, and its group's.
    group
        Whether the group is to be made too.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_storage.add_vmail 5000 True
    """
    run = __salt__["mailhost_run.program"]
    if group:
        run(["groupadd", "-g", str(uid), mailhost_storage.VMAIL])
    # --system: such an account has no last day, and no home is made; the directory is there already.
    words = ["-u", str(uid), "-g", mailhost_storage.VMAIL, "-d", mailhost_storage.MAIL, "-s", "/usr/sbin/nologin"]
    run(["useradd", "--system", *words, mailhost_storage.VMAIL])


def quota(tool, words):
    """Return what the quota tool prints.

    tool
        Its path.
    words
        Its arguments.

    Raises CommandExecutionError with its sentence when it refuses.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_storage.quota /usr/local/sbin/mailhost-quota '["check"]'
    """
    # 1: quotas are off.
    return __salt__["mailhost_run.program"](["/usr/bin/python3", "-I", tool, *words], codes=(0, 1)).strip()
