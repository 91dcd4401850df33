"""Restore the newest backup and all WAL where nobody is disturbed, read every page, compare, and file the proof.

The live server writes a heartbeat, and says what was in its tables at exactly that commit. The restored one is brought
to the same commit: what differs then is a fault, and so is an archive that does not lead there. Checks of what was
restored cannot see that by themselves: the end of an archive with a gap looks like the end of a whole one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import container, heartbeat, pgbackrest, plan, proofs, recovery, restore, scratch
from .config import Config, Failed, Refused, alone

# All of it; the unit that runs it gives it more.
SECONDS = 5 * 3600
# How long the live server has for handing over the segment with the heartbeat.
ARCHIVED_WITHIN = 60.0
_SEGMENT = 1 << 24
_SETTINGS = {
    "hba_file": "/drill/pg_hba.conf",
    # Nobody is let in before the end, so the limits of the server that wrote the WAL do not matter.
    "hot_standby": "off",
    "archive_mode": "off",
    "listen_addresses": "",
    "unix_socket_directories": "/var/run/postgresql",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


# restore_command, one segment at a time. pgBackRest does not compare what it gets with the SHA-1 in its name. A code
# over 125 ends recovery: a damaged segment is not the end of the archive.
_GET = """\
{command} --no-archive-async archive-get "$1" "$2" || exit $?
sum=$(sed -n "s/^$1 //p" /drill/segments)
if [ -n "$sum" ] && [ "$(sha1sum <"$2")" != "$sum  -" ]; then
    echo "ERROR: segment $1 is damaged in the archive" >&2
    exit 200
fi
"""


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What a restored server's log says: whether it is up, LSN and last commit that it got to, and why no further."""

    up: bool
    lsn: str | None
    commit: datetime | None
    why: str


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print the proof as it is filed")
    parser.add_argument("--repository", type=int, choices=(1, 2), help="only from this one; else from all")
    parser.add_argument(
        "--scheduled",
        action="store_true",
        help="as the timer does: wait for another job to end, and leave repository 2 alone while its proof is young",
    )
    parser.add_argument("--clean", action="store_true", help="only remove what a drill that was killed has left")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it, file a proof for each repository and return 0, or 1 when a drill failed."""
    if asked.repository and asked.repository not in config.repositories:
        raise Refused(f"there is no repository {asked.repository}: backup.offsite.type is null")
    passed = True
    with alone(wait=asked.scheduled), interruptible():
        if scratch.remove():
            print("removed what an earlier drill had left")
        restore.clear_export(config)
        if asked.clean:
            return 0
        numbers = (asked.repository,) if asked.repository else config.repositories
        for repository in numbers:
            last = proofs.last(config.state / proofs.NAME, repository)
            if asked.scheduled and repository > 1 and not due(last, config.drill["offsite_days"], time.time()):
                continue
            proof = drill(config, repository)
            proofs.file(config.state / proofs.NAME, proof)
            print(json.dumps(proof) if asked.json else proofs.sentence(proof))
            passed = passed and proof["passed"]
    return 0 if passed else 1


def due(proof: dict[str, Any] | None, days: int, now: float) -> bool:
    """Return whether the repository off the host is to be restored from: what is read there has its price.

    proof
        The last one, None when there is none; one that failed is tried again the next day.
    days
        After how many days it is due; now, in seconds since 1970.
    """
    if proof is None or not proof["passed"]:
        return True
    # Half a day before: it is the daily timer that asks.
    return now - datetime.fromisoformat(proof["finished"]).timestamp() > (days - 0.5) * 86400


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal that ends the process end it by an exception, so that what there is to remove is removed."""

    def leave(number: int, _: object) -> None:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {one: signal.signal(one, leave) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def drill(config: Config, repository: int) -> dict[str, Any]:
    """Do it with what is in a repository, and return the proof; what went wrong is in it."""
    begun = time.monotonic()
    proof: dict[str, Any] = {
        "repository": repository,
        "begun": _shown(time.time()),
        "finished": None,
        "passed": False,
        "found": [],
        "image": config.image,
        "seconds": {},
    }
    try:
        memory = config.drill["memory_mb"] if scratch.bounds_memory() else None
        proof["limits"] = {"memory_mb": memory, "disk_gb": config.drill["disk_gb"]}
        backup = newest(config, repository)
        proof["backup"] = {
            "label": backup.label,
            "type": backup.kind,
            "stop": backup.stop.isoformat(timespec="seconds"),
            "bytes": backup.size,
        }
        proof["rpo_seconds"] = exposed(config, repository)
        live = moment(config)
        proof |= {"lsn": live.lsn, "schema": live.contents.schema, "rows": live.contents.rows}
        proof["seconds"]["archived"] = waited = archived(config, repository, live.segment)
        if waited is None:
            proof["found"].append(f"segment {live.segment} is not in the archive after {ARCHIVED_WITHIN:.0f} s")
        restored(config, repository, backup, live, waited is not None, proof)
    except (Failed, OSError) as error:
        proof["found"].append(str(error))
    proof["passed"] = not proof["found"]
    proof["seconds"]["all"] = round(time.monotonic() - begun, 1)
    proof["finished"] = _shown(time.time())
    return proof


def newest(config: Config, repository: int) -> pgbackrest.Backup:
    """Return the newest base backup of this host in a repository. Raises Failed when there is none."""
    cluster = config.marker.read_text(encoding="utf-8").strip()
    info = pgbackrest.info(config, [f"--repo={repository}"])
    if why := info.repositories[repository].why:
        raise Failed(f"repository {repository} cannot be read: {why}")
    there = info.of(cluster, repository)
    if not there:
        raise Failed("there is no base backup")
    return there[-1]


def exposed(config: Config, repository: int) -> float | None:
    """Return the seconds of writes that a loss of the host would have cost just now.

    They are those since the last heartbeat that the archive has; None where it has none yet.
    """
    last = max(segments(config, repository), default=None)
    if last is None:
        return None
    end = (number(last) + 1) * _SEGMENT
    said = container.sql(
        config,
        "SELECT round(extract(epoch FROM clock_timestamp() - max(beat_at)), 1) FROM backup.heartbeat"
        f" WHERE lsn < '{end >> 32:X}/{end & 0xFFFFFFFF:X}'",
        config.database,
    )
    return float(said) if said else None


def moment(config: Config) -> heartbeat.Moment:
    """Write a heartbeat and return it with what was there then, once nobody is writing to the tables."""
    tables = json.loads(container.sql(config, heartbeat.tables_sql(), config.database))
    for left in reversed(range(60)):
        try:
            return heartbeat.parse_moment(container.sql(config, heartbeat.moment_sql(tables), config.database))
        except Failed as error:
            if "could not obtain lock" not in str(error) or not left:
                raise
            time.sleep(0.5)
    raise AssertionError


def archived(config: Config, repository: int, segment: str) -> float | None:
    """Wait until a segment is in the archive and return after how many seconds it was; None when it does not come."""
    place, _ = recovery.listed(config, repository)
    words = [f"--repo={repository}", f"--filter=^{segment}-", "repo-ls", f"{place}/{segment[:16]}"]
    begun = time.monotonic()
    while time.monotonic() - begun < ARCHIVED_WITHIN:
        if pgbackrest.run(config, *words).strip():
            return round(time.monotonic() - begun, 1)
        time.sleep(0.2 if repository == 1 else 2)
    return None


def segments(config: Config, repository: int) -> dict[str, str]:
    """Return the segments in this host's archive in a repository, of all time lines: their SHA-1 by name."""
    _, found = recovery.listed(config, repository)
    return {plan.segment_name(*one): digest for one, digest in found.sums.items()}


def segment_files(config: Config) -> list[Path]:
    """Return the files of the segments in this host's archive; those of an earlier cluster do not count."""
    pattern = re.compile(r"[0-9A-F]{24}-[0-9a-f]{40}(\.\w+)?")
    there = archive_of(config)
    return [path for path in there.glob("*/*") if pattern.fullmatch(path.name)] if there else []


def archive_of(config: Config) -> Path | None:
    """Return the directory of the archive of the cluster that runs; None while there is none."""
    places = [path for path in (config.archive / config.stanza).glob("*-*") if path.is_dir()]
    # Named by major version, and a number that goes up with each cluster.
    return max(places, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def number(segment: str) -> int:
    """Return the number of a segment from its name."""
    return (int(segment[8:16], 16) << 8) + int(segment[16:24], 16)


def first_gap(names: Iterable[str], start: str, end: str) -> str | None:
    """Return the first segment between two that is not there, on whatever time line; None when all are."""
    there = {number(name) for name in names}
    for wanted in range(number(start), number(end) + 1):
        if wanted not in there:
            return f"{end[:8]}{wanted >> 8:08X}{wanted & 0xFF:08X}"
    return None


def restored(
    config: Config,
    repository: int,
    backup: pgbackrest.Backup,
    live: heartbeat.Moment,
    whole: bool,
    proof: dict[str, Any],
) -> None:
    """Restore and look, and write into the proof what was found.

    whole
        Whether the archive leads to the heartbeat; else it is followed to where it ends.
    """
    archive = segments(config, repository)
    disk = min(config.drill["disk_gb"] * 10**9, max(0, scratch.free(scratch.DIRECTORY.parent)))
    if backup.size > disk:
        raise Failed(f"{backup.size / 1e6:.0f} MB do not fit into the {disk / 1e6:.0f} MB that a drill may take")
    seconds, found = proof["seconds"], proof["found"]
    with scratch.Scratch(config, disk, SECONDS, network=repository > 1) as room:
        begun = time.monotonic()
        target = ["--type=xid", f"--target={live.transaction % 2**32}", "--target-action=promote"] if whole else []
        room.run(
            *pgbackrest.command(config, f"--repo={repository}", f"--set={backup.label}", *target),
            f"--target-timeline={int(live.segment[:8], 16)}",
            "--archive-mode=off",
            "restore",
        )
        seconds["restore"] = round(time.monotonic() - begun, 1)
        log = serve(config, room, repository, archive)
        seconds["recovery"] = round(time.monotonic() - begun - seconds["restore"], 1)
        proof["reached"] = log.lsn
        if log.up:
            proof["rto_seconds"] = round(time.monotonic() - begun, 1)
        if not log.up or not whole:
            gap = first_gap(archive, backup.start_wal, live.segment)
            found.append(short(log, live, gap))
            if log.commit:
                proof["rpo_seconds"] = round(live.at - log.commit.timestamp(), 1)
        if not log.up:
            return
        if whole:
            said = psql(room, heartbeat.contents_sql(list(live.contents.rows)), config.database)
            found += heartbeat.differences(live.contents, heartbeat.parse_contents(json.loads(said)))
        begun = time.monotonic()
        for words in (amcheck(room), checksums(room)):
            found += words
        seconds["checks"] = round(time.monotonic() - begun, 1)


def serve(config: Config, room: scratch.Scratch, repository: int, archive: Mapping[str, str]) -> Recovery:
    """Start a server on what was restored, wait until it takes commands or has ended, and return what its log says.

    archive
        The SHA-1 of its segments, by name.
    """
    (scratch.DIRECTORY / "pg_hba.conf").write_text("local all postgres peer\n", encoding="utf-8")
    (scratch.DIRECTORY / "segments").write_text("".join(f"{name} {digest}\n" for name, digest in archive.items()))
    command = " ".join(pgbackrest.command(config, f"--repo={repository}"))
    (scratch.DIRECTORY / "get").write_text(_GET.format(command=command), encoding="utf-8")
    memory = f"{max(16, config.drill['memory_mb'] // 8)}MB"
    settings = {**_SETTINGS, "restore_command": 'sh /drill/get %f "%p"', "shared_buffers": memory}
    # pg_ctl hands this to a shell.
    words = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    start = ["pg_ctl", f"--pgdata={scratch.DATA}", "--log=/drill/log", "--no-wait", "--silent", f"--options={words}"]
    room.run(*start, "start")
    pid, path = scratch.DIRECTORY / "data/postmaster.pid", scratch.DIRECTORY / "log"
    missed = 0
    while True:
        room.bounded()
        log = read_log(path.read_text(encoding="utf-8", errors="replace") if path.exists() else "")
        # It writes its own file when it starts and removes it when it ends.
        missed = 0 if pid.exists() else missed + 1
        if log.up or missed > 20:
            return log
        time.sleep(0.1)


def read_log(text: str) -> Recovery:
    """Return what a restored server's log says."""
    lsn = re.findall(r"redo done at ([0-9A-F]+/[0-9A-F]+)", text)
    commit = re.findall(r"last completed transaction was at log time (\S+ \S+)", text)
    said = re.findall(r"(?:FATAL|PANIC|ERROR): +(.*)$", text, re.MULTILINE)
    why = [words for words in said if not words.startswith("the database system is ")]
    return Recovery(
        "database system is ready to accept connections" in text,
        lsn[-1] if lsn else None,
        datetime.fromisoformat(commit[-1]) if commit else None,
        # The first is the cause, the last the end.
        " / ".join(dict.fromkeys([*why[:1], *why[-1:]])),
    )


def short(log: Recovery, live: heartbeat.Moment, gap: str | None) -> str:
    """Return in words how far a recovery got that did not get to the heartbeat, and why."""
    words = f"recovery reached {log.lsn or 'nothing'} and not {live.lsn}, where the live server was"
    if log.commit:
        words += f": {live.at - log.commit.timestamp():.0f} s of writes are lost"
    if gap:
        words += f"; segment {gap} is missing in the archive"
    return f"{words} ({log.why})" if log.why else words


def psql(room: scratch.Scratch, query: str, database: str) -> str:
    """Return what the restored server answers."""
    words = ["psql", "-XAtq", "--set=ON_ERROR_STOP=1", "--username=postgres", "--host=/var/run/postgresql"]
    return room.run(*words, f"--dbname={database}", "--file=-", stdin=query).strip()


def amcheck(room: scratch.Scratch) -> list[str]:
    """Compare every index with its table, and every table with itself; return what is wrong in words."""
    words = ["--username=postgres", "--host=/var/run/postgresql", "--all", "--install-missing", "--heapallindexed"]
    if int((scratch.DIRECTORY / "data/PG_VERSION").read_text(encoding="utf-8")) >= 17:
        words.append("--checkunique")
    try:
        room.run("pg_amcheck", *words)
    except Failed as error:
        return [str(error)]
    return []


def checksums(room: scratch.Scratch) -> list[str]:
    """End the server and compare the checksum of every page; return what is wrong in words."""
    room.run("pg_ctl", f"--pgdata={scratch.DATA}", "--wait", "--timeout=600", "--silent", "--mode=fast", "stop")
    try:
        room.run("pg_checksums", "--check", f"--pgdata={scratch.DATA}")
    except Failed as error:
        return [str(error)]
    return []


def _shown(seconds: float) -> str:
    """Return a moment in seconds since 1970 as it is filed."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
