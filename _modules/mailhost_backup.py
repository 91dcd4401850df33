"""Look at the repositories of the database's backups, and act on them."""

import json
import os

from salt.exceptions import CommandExecutionError

import mailhost_backup
import mailhost_postgres

__all__ = ["archive", "drill", "info", "make_stanza", "run"]


def archive():
    """Return whether the archive on the host is there, whether it is encrypted, and whose it says that it is.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.archive
    """
    look = __salt__["mailhost_file.look"](mailhost_backup.ARCHIVE_INFO)
    return mailhost_backup.parse_archive_info(look.get("text"))


def drill():
    """Return the last drill: when it ended, and whether it passed; None when there was none.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.drill
    """
    return mailhost_backup.parse_drills(__salt__["mailhost_file.look"](mailhost_backup.DRILLS).get("text", ""))


def info(image, uid):
    """Return what pgBackRest says of the repositories, in the container or, while that does not run, one beside it.

    image, uid
        What the container would be made from, and as whom it would run.

    Raises CommandExecutionError with its words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.info mailserver-postgres:17-trixie-0123abcd 999
    """
    said = _pgbackrest(image, uid, ["info", "--output=json"])
    return mailhost_backup.parse_info(json.loads(said))


def make_stanza(image, uid, anew):
    """Let every repository take WAL of the cluster that is in the data directory, running or not.

    anew
        Whether a repository has another cluster's: what is in it stays.

    Raises CommandExecutionError with pgBackRest's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.make_stanza mailserver-postgres:17-trixie-0123abcd 999 False
    """
    # A repository that is new has to be made first: the upgrade would not do it.
    _pgbackrest(image, uid, ["--no-online", "stanza-upgrade" if anew else "stanza-create"])


def run(*words):
    """Run the operator's tool and return what it said. Params: words, its arguments.

    Raises CommandExecutionError with its words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.run backup
    """
    return __salt__["mailhost_run.program"]([mailhost_backup.TOOL, *words], timeout=6 * 3600)


def _pgbackrest(image, uid, words):
    """Run pgBackRest in the container, or in one of its own while that does not run."""
    command = [f"--stanza={mailhost_postgres.STANZA}", *words]
    there = __salt__["mailhost_postgres.container"]()
    program = __salt__["mailhost_run.program"]
    if there and there["status"] == "running" and os.path.exists(mailhost_postgres.PGBACKREST):
        try:
            return program(["docker", "exec", mailhost_postgres.CONTAINER, "pgbackrest", *command], timeout=300)
        except CommandExecutionError as error:
            # A container of before this tree made backups has neither the program nor its files.
            if "executable file not found" not in str(error):
                raise
    return program([*_beside(uid), "--entrypoint=pgbackrest", image, *command], timeout=300)


def _beside(uid):
    """Return the argument list of a container with the cluster, its repositories and pgBackRest's settings."""
    mounts = {
        mailhost_postgres.DATA: "/var/lib/postgresql/data:ro",
        mailhost_backup.ARCHIVE: "/var/lib/pgbackrest/archive",
        mailhost_backup.BACKUPS: "/var/lib/pgbackrest/backup",
        mailhost_postgres.PGBACKREST: "/etc/pgbackrest:ro",
    }
    argv = ["docker", "run", "--rm", "--pull=never", "--network=host", "--cap-drop=ALL", f"--user={uid}:{uid}"]
    argv += ["--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp", "--log-driver=none"]
    return argv + [f"--volume={path}:{target}" for path, target in mounts.items()]
