"""A cluster brought back beside the one that runs: in a directory and a container of its own.

Nothing of it reaches the archive: that is read-only here, and the server that is started has no archive_command. The
history of the time line that it starts is archived by the real server, once the directory is in its place.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import container, pgbackrest, plan, times
from .config import Config, Failed, Refused

# In the new directory while it is recovered.
_TOOLS = "mailhost-restore"
_BEGIN, _END = "# mailhost-pg restore: begin\n", "# mailhost-pg restore: end\n"
# restore_command. 1: the segment is not there; over 125: PostgreSQL must not go on as if the archive ended here. Which
# are there was settled before, and pgBackRest does not compare what it gets with the SHA-1 in its name.
_GET = """\
list={tools}/segments
case $1 in
    *.history) sum= ;;
    *)
        sum=$(sed -n "s/^$1 //p" $list)
        [ -n "$sum" ] || exit 1
        if [ "$sum" = local ]; then cp "/old-wal/$1" "$2" && exit 0; exit 200; fi
        ;;
esac
pgbackrest --stanza={stanza} --repo={repository} --no-archive-async archive-get "$1" "$2"
rc=$?
[ $rc -le 1 ] || {{ echo "mailhost-pg: $1 cannot be read from repository {repository}" >&2; exit 200; }}
if [ $rc = 1 ] && [ -n "$sum" ]; then echo "mailhost-pg: $1 went missing in repository {repository}" >&2; exit 200; fi
if [ -n "$sum" ] && [ "$(sha1sum <"$2")" != "$sum  -" ]; then
    echo "mailhost-pg: $1 is damaged in repository {repository}" >&2
    exit 200
fi
exit $rc
"""
_SHORT = "recovery ended before configured recovery target was reached"
_COMPLETE = "archive recovery complete"
# Later than any commit: recovery then ends by saying that it ended before this, with what it reached.
_NEVER = "9999-01-01 00:00:00+00"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": "/tmp",
    "hba_file": f"/var/lib/postgresql/data/{_TOOLS}/pg_hba.conf",
    # With archive_mode on, what is to be archived is marked; nothing is archived.
    "archive_command": "",
    "archive_library": "",
    # Nobody is let in before the end, so the limits of the server that wrote the WAL do not matter.
    "hot_standby": "off",
    "max_connections": "20",
    "autovacuum": "off",
    "lc_messages": "C",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}
DATA = "/var/lib/postgresql/data"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a repository has: the cluster's system identifier, backups, time lines as they came into use, segments.

    wal is the pg_wal that some of the segments are in.
    """

    cluster: str
    backups: list[pgbackrest.Backup]
    lines: list[plan.Line]
    archive: plan.Segments
    wal: Path | None


@dataclasses.dataclass(frozen=True)
class Reached:
    """Where a recovery ended."""

    lsn: str  # of the last record
    commit: str | None  # time of the last commit
    short: bool  # the archive ended before the target
    line: int  # the time line that it started


def look(config: Config, repository: int, stopped: Path | None = None) -> Found:
    """Return what a repository has.

    stopped
        The data directory of a server that does not run: if it is the same cluster, its pg_wal has the newest WAL that
        there is, and may be the only place for it.

    Raises Refused when there is no backup in it, Failed with pgBackRest's words when it cannot be read.
    """
    info = pgbackrest.info(config, [f"--repo={repository}"])
    there = info.repositories.get(repository)
    if there is None or there.why:
        raise Refused(f"repository {repository} cannot be read: {there.why if there else 'there is none'}")
    if there.cluster is None or not (backups := info.of(there.cluster, repository)):
        raise Refused(f"there is no base backup in repository {repository}")
    listing = json.loads(_pgbackrest(config, repository, "repo-ls", "--recurse", "--output=json", _archive(config)))
    # A stanza that was made for another cluster later has a directory of its own, with the next number.
    place = max((name for name in listing if re.fullmatch(r"\d+-\d+", name)), key=lambda name: int(name.split("-")[1]))
    archive = plan.parse_archive({name: entry for name, entry in listing.items() if name.startswith(f"{place}/")})
    wal = stopped / "pg_wal" if stopped and identifier(stopped) == there.cluster else None
    if wal:
        archive = plan.with_local(archive, os.listdir(wal))
    path = f"{_archive(config)}/{place}"
    ancestors = {
        line: plan.parse_history(_pgbackrest(config, repository, "repo-get", f"{path}/{line:08X}.history"))
        for line in archive.histories
    }
    return Found(there.cluster, backups, plan.lines(backups, archive, ancestors), archive, wal)


def recover(
    config: Config,
    repository: int,
    chosen: plan.Chosen,
    directory: Path,
    name: str,
    *,
    wal: Path | None = None,
    keep: bool = False,
    options: Sequence[str] = (),
    seconds: float = math.inf,
) -> Reached:
    """Bring a chosen state back in a directory, and leave a server running on it in a container; `stop` ends that.

    directory
        Where to; it is made, and must not be there.
    name
        The container's name.
    wal
        A pg_wal of the same cluster that the plan was made with.
    keep
        Whether the cluster is to go into service: what it starts anew is then marked for the archive.
    options
        More of Docker's, such as limits.
    seconds
        How long the replay of WAL may take.

    Raises Failed when the backup or a segment is damaged or missing, or when the server does not come up.
    """
    directory.mkdir(mode=0o700)
    os.chown(directory, config.uid, 0)
    mounts = [f"--name={name}", *options, *([f"--volume={wal}:/old-wal:ro"] if wal else [])]
    label = chosen.backup.label
    try:
        argv = pgbackrest.command(config, f"--repo={repository}", f"--set={label}", "--type=none", "restore")
        _run(config, repository, argv, directory, mounts)
    except Failed as error:
        raise Failed(f"backup {label} cannot be restored: {error}") from None
    _prepare(config, repository, chosen, directory)
    _aim(directory, chosen, _target(chosen))
    until = time.monotonic() + seconds
    said = reached = _serve(config, repository, directory, name, mounts, keep, until)
    short = _SHORT in said
    if short:
        _require_whole(said, chosen)
        _aim(directory, chosen, {})
        said = _serve(config, repository, directory, name, mounts, keep, until)
    if _COMPLETE not in said:
        raise Failed(f"the restored server does not come up: {_why(said)}")
    commit = re.findall(r"last completed transaction was at log time (\S+ \S+)", reached)
    line = re.findall(r"selected new timeline ID: (\d+)", said)
    return Reached(_done(reached) or chosen.backup.stop_lsn, commit[-1] if commit else None, short, int(line[-1]))


def stop(name: str) -> None:
    """End the server that `recover` left running, cleanly, and remove its container."""
    container.run(["docker", "stop", "--time=300", name])
    remove(name)


def remove(name: str) -> None:
    """Remove a container, whatever it does, if it is there."""
    container.run(["docker", "rm", "--force", "--volumes", name], codes=(0, 1))


def inside(name: str, argv: Sequence[str], stdin: str = "") -> str:
    """Return what a program in the container that `recover` left running prints. Raises Failed with its words."""
    return container.run(["docker", "exec", "--interactive", name, *argv], stdin=stdin)


def sql(name: str, query: str, database: str = "postgres") -> str:
    """Return what the restored server answers the superuser: rows, fields with | between them."""
    psql = ["psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    return inside(name, [*psql, "--username=postgres", "--host=/tmp", f"--dbname={database}"], query).rstrip("\n")


def check(config: Config, directory: Path) -> None:
    """Compare the checksum of every page of a cluster that was ended cleanly. Raises Failed with what is wrong."""
    try:
        _run(config, 1, ["pg_checksums", "--check", f"--pgdata={DATA}"], directory, [])
    except Failed as error:
        raise Failed(f"pages of the restored cluster are damaged: {error}") from None


def clean(directory: Path) -> None:
    """Take what was needed for the recovery out of a cluster's directory."""
    _aim(directory, None, {})
    shutil.rmtree(directory / _TOOLS)
    # pgBackRest gives it the group of the files in it.
    os.chown(directory, -1, 0)


def control(data: Path) -> bytes | None:
    """Return pg_control, which changes whenever a server runs on a directory; None without one."""
    try:
        return (data / "global/pg_control").read_bytes()
    except FileNotFoundError:
        return None


def identifier(data: Path) -> str | None:
    """Return the system identifier of the cluster in a directory: what pg_control begins with."""
    found = control(data)
    return str(int.from_bytes(found[:8], sys.byteorder)) if found else None


def _archive(config: Config) -> str:
    """Return the archive's path in a repository."""
    return f"archive/{config.stanza}"


def _prepare(config: Config, repository: int, chosen: plan.Chosen, directory: Path) -> None:
    """Put what the recovery needs into the directory."""
    tools = directory / _TOOLS
    tools.mkdir(mode=0o755)
    rows = [f"{name} {digest or 'local'}\n" for name, digest in chosen.path.items()]
    files = {
        "get": _GET.format(tools=_TOOLS, stanza=config.stanza, repository=repository),
        "segments": "".join(rows),
        "pg_hba.conf": "local all all trust\n",
        "../recovery.signal": "",
    }
    for path, text in files.items():
        (tools / path).write_text(text, encoding="utf-8")
    os.chown(directory / "recovery.signal", config.uid, config.uid)


def _target(chosen: plan.Chosen) -> dict[str, str]:
    """Return the settings that name the target; where the archive's end is meant, one that is never reached."""
    if chosen.before is not None:
        # Whatever was asked for came after this.
        lsn = f"{chosen.before >> 32:X}/{chosen.before & 0xFFFFFFFF:X}"
        return {"recovery_target_lsn": lsn, "recovery_target_inclusive": "off"}
    if chosen.target.end_of_backup:
        return {"recovery_target": "immediate"}
    if chosen.target.transaction is not None:
        return {"recovery_target_xid": str(chosen.target.transaction)}
    return {"recovery_target_time": times.shown(chosen.target.moment) if chosen.target.moment else _NEVER}


def _aim(directory: Path, chosen: plan.Chosen | None, target: Mapping[str, str]) -> None:
    """Write the settings of the recovery into a file of the cluster's: without a target it goes on to the end.

    chosen
        None takes them out.
    """
    conf = directory / "postgresql.auto.conf"
    text = re.sub(re.escape(_BEGIN) + ".*?" + re.escape(_END), "", conf.read_text(encoding="utf-8"), flags=re.DOTALL)
    if chosen is not None:
        settings = {
            "restore_command": f'sh {_TOOLS}/get %f "%p"',
            "recovery_target_timeline": str(chosen.line.number),
            "recovery_target_action": "promote",
            **target,
        }
        text += _BEGIN + "".join(f"{name} = '{value}'\n" for name, value in settings.items()) + _END
    _rewrite(conf, text)


def _rewrite(path: Path, text: str) -> None:
    """Replace a file's text, and keep whose it is."""
    found = path.stat()
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchown(stream.fileno(), found.st_uid, found.st_gid)
        os.fchmod(stream.fileno(), found.st_mode & 0o7777)
        os.fsync(stream.fileno())
    new.replace(path)


def _serve(
    config: Config, repository: int, directory: Path, name: str, mounts: Sequence[str], keep: bool, until: float
) -> str:
    """Start a server on the directory and return its log, when it takes commands or has ended."""
    remove(name)
    settings = {**_SETTINGS, "archive_mode": "on" if keep else "off"}
    argv = _beside(config, repository, directory)
    # Its log is read when it has ended, too.
    argv = [word for word in argv if word not in ("--rm", "--interactive", "--log-driver=none")]
    argv += ["--detach", "--shm-size=256m", *mounts, "--entrypoint=postgres", config.image]
    container.run([*argv, *(f"--{key.replace('_', '-')}={value}" for key, value in settings.items())])
    while True:
        found = container.inspect(name)
        ready = container.run(["docker", "exec", name, "pg_isready", "--host=/tmp"], codes=range(256))
        if not found or not found["State"]["Running"] or "accepting connections" in ready:
            # Its standard error is the log; Docker gives it as such.
            return container.run(["sh", "-c", 'exec docker logs "$1" 2>&1', "sh", name])
        if time.monotonic() > until:
            raise Failed("the replay of WAL is not done in the time that it has")
        time.sleep(0.3)


def _require_whole(said: str, chosen: plan.Chosen) -> None:
    """Raise Failed when a recovery ended before the end of what was found in the archive."""
    lsn = plan.parse_lsn(_done(said) or chosen.backup.stop_lsn)
    last = max(plan.segment_number(name)[1] for name, digest in chosen.path.items() if digest)
    # A backup's end is the first LSN that it does not need, and so may be the next segment's.
    if plan.segment_of(lsn) >= last or plan.segment_of(lsn - 1) >= last:
        return
    if chosen.missing:
        raise Failed(f"segment {chosen.missing} is missing in the archive: what came after it cannot be restored")
    name = plan.segment_name(chosen.line.number, plan.segment_of(lsn))
    raise Failed(f"recovery ended in segment {name}, and there are later ones: {_why(said)}")


def _done(said: str) -> str | None:
    """Return the LSN of the last record that a server's log says was replayed."""
    found = re.findall(r"redo done at ([0-9A-F]+/[0-9A-F]+)", said)
    return found[-1] if found else None


def _why(said: str) -> str:
    """Return the words of a server's log that say why it ended."""
    own = re.findall(r"^mailhost-pg: (.*)$", said, re.MULTILINE)
    fatal = re.findall(r"(?:FATAL|PANIC):\s+(.*)$", said, re.MULTILINE)
    return (own or fatal or said.strip().splitlines() or ["it said nothing"])[0]


def _beside(config: Config, repository: int, directory: Path | None) -> list[str]:
    """Return how a container is run: without a network, unless what it reads is off the host."""
    return container.beside(config, str(directory) if directory else None, network=repository > 1)


def _run(config: Config, repository: int, argv: Sequence[str], directory: Path | None, options: Sequence[str]) -> str:
    """Return what a program in a container of its own prints."""
    words = [*_beside(config, repository, directory), *options, f"--entrypoint={argv[0]}", config.image, *argv[1:]]
    return container.run(words)


def _pgbackrest(config: Config, repository: int, *words: str) -> str:
    """Return what pgBackRest prints about one repository."""
    return _run(config, repository, pgbackrest.command(config, f"--repo={repository}", *words), None, [])
