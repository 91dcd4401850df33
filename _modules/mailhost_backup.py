"""Look at the repositories of the database's backups, and act on them."""

import contextlib
import json
import os
import pathlib

from salt.exceptions import CommandExecutionError

import mailhost_backup
import mailhost_postgres

__all__ = ["archive", "drills", "end_tail", "info", "make_stanza", "make_tail", "run", "tail", "tail_there"]


def archive():
    """Return whether the archive on the host is there, whether it is encrypted, and whose it says that it is.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.archive
    """
    look = __salt__["mailhost_file.look"](mailhost_backup.ARCHIVE_INFO)
    return mailhost_backup.parse_archive_info(look.get("text"))


def drills():
    """Return the last drill of each repository with the cluster that this host made: when it ended, whether it passed.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.drills
    """
    look = __salt__["mailhost_file.look"]
    made = look(mailhost_postgres.MARKER).get("text", "").strip()
    return mailhost_backup.parse_drills(look(mailhost_backup.DRILLS).get("text", ""), made)


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


def tail():
    """Return the role and the slot of what takes WAL as it is written; None while PostgreSQL does not run.

    Raises CommandExecutionError with its words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.tail
    """
    there = __salt__["mailhost_postgres.container"]()
    if not there or there["status"] != "running":
        return None
    return __salt__["mailhost_postgres.sql"](mailhost_backup.TAIL_QUESTION)


def make_tail(changes):
    """Make role and slot. Params: changes, those of ``mailhost_backup.plan_tail``.

    Raises CommandExecutionError with PostgreSQL's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.make_tail '{"slot": {}}'
    """
    __salt__["mailhost_postgres.sql"](mailhost_backup.tail_sql(changes))


def tail_there(directory):
    """Return what there is of a receiver: its unit, its slot, and WAL in its directory.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.tail_there /opt/postgres/wal_tail
    """
    return {
        "unit": os.path.exists(mailhost_backup.RECEIVER_FILE),
        "slot": os.path.isdir(mailhost_backup.SLOT),
        "wal": bool(_wal(directory)),
    }


def end_tail(directory, there):
    """Stop the receiver, drop its slot and role, and remove its unit and the WAL that it took.

    directory, there
        Where its WAL is, and what ``tail_there`` found.

    Raises CommandExecutionError with the words of systemd, or of PostgreSQL, which has to run.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_backup.end_tail /opt/postgres/wal_tail '{"unit": true, "slot": true, "wal": true}'
    """
    act = __salt__["mailhost_service.act"]
    if there["unit"]:
        act(mailhost_backup.RECEIVER, "stop", "disable")
    if there["unit"] or there["slot"]:
        __salt__["mailhost_postgres.sql"](mailhost_backup.NO_TAIL_SQL)
    if there["unit"]:
        # Last of what a run that was cut off is recognised by.
        __salt__["mailhost_file.remove"](mailhost_backup.RECEIVER_FILE)
        act(mailhost_backup.RECEIVER, "daemon-reload")
    for path in _wal(directory):
        path.unlink()
    # A disk's own directory stays, and so does one with something else in it.
    for place in (f"{directory}/left", directory):
        with contextlib.suppress(OSError):
            os.rmdir(place)


def _wal(directory):
    """Return the files of a receiver in its directory."""
    places = (pathlib.Path(directory), pathlib.Path(directory, "left"))
    return [path for place in places for path in place.glob("*") if mailhost_backup.WAL_FILE.fullmatch(path.name)]


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
