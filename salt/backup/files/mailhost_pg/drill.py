"""Restore the newest backup and all WAL where nobody is disturbed, read every page, compare, and file the proof.

The live server writes a heartbeat, and says what was in its tables at exactly that commit. The restored one is brought
to the same commit: what differs then is a fault, and so is an archive that does not lead there. Checks of what was
restored cannot see that by themselves: the end of an archive with a gap looks like the end of a whole one.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import container, heartbeat, pgbackrest, plan, proofs, recovery, restore, scratch
from .config import Config, Failed, Refused, alone, made

# All of it; the unit that runs it gives it more.
SECONDS = 5 * 3600
# How long the live server has for handing over the segment with the heartbeat.
ARCHIVED_WITHIN = 60.0
_SEGMENT = 1 << 24


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
            last = proofs.last(config.state / proofs.NAME, made(config), repository)
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
        "cluster": made(config),
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
        found = looked(config, repository)
        backup = found.backups[-1]
        proof["backup"] = {
            "label": backup.label,
            "type": backup.kind,
            "stop": backup.stop.isoformat(timespec="seconds"),
            "bytes": backup.size,
        }
        proof["rpo_seconds"] = exposed(config, found)
        live = moment(config)
        proof |= {"lsn": live.lsn, "schema": live.contents.schema, "rows": live.contents.rows}
        proof["seconds"]["archived"] = waited = archived(config, repository, found.place, live.segment)
        if waited is None:
            proof["found"].append(f"segment {live.segment} is not in the archive after {ARCHIVED_WITHIN:.0f} s")
        restored(config, repository, backup.label, live, waited is not None, proof)
    except (Failed, Refused, OSError) as error:
        proof["found"].append(str(error))
    proof["passed"] = not proof["found"]
    proof["seconds"]["all"] = round(time.monotonic() - begun, 1)
    proof["finished"] = _shown(time.time())
    return proof


def looked(config: Config, repository: int) -> recovery.Found:
    """Return what a repository has of this host's cluster. Raises Failed or Refused when it has no base backup."""
    found = recovery.look(config, repository, local=False)
    if found.cluster != config.marker.read_text(encoding="utf-8").strip():
        raise Failed(f"repository {repository} is for another cluster, {found.cluster}")
    return found


def exposed(config: Config, found: recovery.Found) -> float | None:
    """Return the seconds of writes that a loss of the host would have cost just now.

    They are those since the last heartbeat that the archive has; None where it has none yet.
    """
    if not found.archive.sums:
        return None
    _, last = max(found.archive.sums)
    end = (last + 1) * _SEGMENT
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


def archived(config: Config, repository: int, place: str, segment: str) -> float | None:
    """Wait until a segment is in the archive and return after how many seconds it was; None when it does not come.

    place
        Where in the repository.
    """
    words = [f"--repo={repository}", f"--filter=^{segment}-", "repo-ls", f"{place}/{segment[:16]}"]
    begun = time.monotonic()
    while time.monotonic() - begun < ARCHIVED_WITHIN:
        if pgbackrest.run(config, *words).strip():
            return round(time.monotonic() - begun, 1)
        time.sleep(0.2 if repository == 1 else 2)
    return None


def segment_files(config: Config) -> list[Path]:
    """Return the files of the segments in this host's archive; those of an earlier cluster do not count."""
    pattern = re.compile(r"[0-9A-F]{24}-[0-9a-f]{40}(\.\w+)?")
    there = pgbackrest.archive_of(config)
    return [path for path in there.glob("*/*") if pattern.fullmatch(path.name)] if there else []


def restored(
    config: Config, repository: int, label: str, live: heartbeat.Moment, whole: bool, proof: dict[str, Any]
) -> None:
    """Restore as a restore would and look, and write into the proof what was found.

    label
        The backup to begin with.
    whole
        Whether the archive leads to the heartbeat; else it is followed to where it ends.
    """
    there = looked(config, repository)
    target = plan.Target(transaction=live.transaction % 2**32 if whole else None)
    way = plan.choose(target, there.backups, there.lines, there.archive, label)
    disk = min(config.drill["disk_gb"] * 10**9, max(0, scratch.free(scratch.DIRECTORY.parent)))
    if way.backup.size > disk:
        raise Failed(f"{way.backup.size / 1e6:.0f} MB do not fit into the {disk / 1e6:.0f} MB that a drill may take")
    seconds, found, memory = proof["seconds"], proof["found"], config.drill["memory_mb"]
    bounds = scratch.Bounds(memory, disk, SECONDS)
    network = repository > 1
    with scratch.Scratch(config, scratch.NAME, scratch.DIRECTORY, network=network, bounds=bounds) as room:
        begun = time.monotonic()
        recovery.bring(room, repository, way)
        seconds["restore"] = round(time.monotonic() - begun, 1)
        why = ""
        try:
            reached = recovery.replay(room, repository, way, settings={"shared_buffers": f"{max(16, memory // 8)}MB"})
            proof["rto_seconds"] = round(time.monotonic() - begun, 1)
        except recovery.Ended as ended:
            reached, why = ended.reached, str(ended)
        seconds["recovery"] = round(time.monotonic() - begun - seconds["restore"], 1)
        proof["reached"] = reached.lsn
        if reached.short or why:
            found.append(short(reached, live, why))
            if reached.commit:
                proof["rpo_seconds"] = round(live.at - reached.commit.timestamp(), 1)
        if why:
            return
        if not reached.short:
            said = recovery.sql(room, heartbeat.contents_sql(list(live.contents.rows)), config.database)
            found += heartbeat.differences(live.contents, heartbeat.parse_contents(json.loads(said)))
        begun = time.monotonic()
        for look in (amcheck, checksums):
            try:
                look(room)
            except Failed as error:
                found.append(str(error))
        seconds["checks"] = round(time.monotonic() - begun, 1)


def short(reached: recovery.Reached, live: heartbeat.Moment, why: str) -> str:
    """Return in words how far a recovery got that did not get to the heartbeat, and why."""
    words = f"recovery reached {reached.lsn or 'nothing'} and not {live.lsn}, where the live server was"
    if reached.commit:
        words += f": {live.at - reached.commit.timestamp():.0f} s of writes are lost"
    return f"{words} ({why})" if why else words


def amcheck(room: scratch.Scratch) -> None:
    """Compare every index with its table, and every table with itself. Raises Failed with what is wrong."""
    words = ["--username=postgres", f"--host={recovery.SOCKETS}", "--all", "--install-missing", "--heapallindexed"]
    if int((room.directory / "PG_VERSION").read_text(encoding="utf-8")) >= 17:
        words.append("--checkunique")
    room.run("pg_amcheck", *words)


def checksums(room: scratch.Scratch) -> None:
    """End the server and compare the checksum of every page. Raises Failed with what is wrong."""
    recovery.stop(room)
    recovery.check(room)


def _shown(seconds: float) -> str:
    """Return a moment in seconds since 1970 as it is filed."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
