"""Put the database back to a moment: beside the old data, looked through, and then in its place."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from . import container, pgbackrest, plan, recovery, scratch, times
from .config import Config, Failed, Refused, alone, made

NAME, EXPORT = "mailhost-pg-restore", "mailhost-pg-export"
# Room for WAL and what a recovery writes beside the data.
_MARGIN = 1 << 29
_SWITCHED_SECONDS = 60
# How long a server that was stopped is waited for; it goes on with its start also after that.
_RESUMED_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Journal:
    """What a restore has done to the host, for whoever comes after it was killed.

    inode is the new directory's, None before there is a whole one; kept the name that the old one gets; live_since when
    a server was started on it first; served, whether that server has answered: all that is left then are the backups
    that note it.
    """

    inode: int | None = None
    kept: str = ""
    live_since: float = 0.0
    cluster: str = ""
    served: bool = False


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    target_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def target_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which state is meant."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--to", metavar="TIME", help="the state of this moment: '2026-11-22 14:03:05+00'")
    which.add_argument("--latest", action="store_true", help="the newest state that there is")
    parser.add_argument("--backup", metavar="ID", help="begin with this backup; alone: the state at its end")
    parser.add_argument("--repository", type=int, default=1, choices=(1, 2), help="2: the one off the host")


def target(config: Config, asked: argparse.Namespace) -> plan.Target:
    """Return which state is meant. Raises Refused when that is not clear, or cannot be."""
    if asked.repository not in config.repositories:
        raise Refused(f"there is no repository {asked.repository}: backup.offsite.type is null")
    if not (asked.to or asked.latest or asked.backup):
        raise Refused("say which state: --to TIME, --latest or --backup ID")
    moment = times.parse(asked.to) if asked.to else None
    if moment and moment > datetime.now(UTC):
        raise Refused(f"{times.shown(moment)} is yet to come")
    return plan.Target(moment, end_of_backup=not (asked.to or asked.latest))


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it, after saying in one sentence what."""
    wanted = target(config, asked)
    with alone(wait=False):
        if not asked.dry_run:
            tidy(config)
        found, way = chosen(config, asked, wanted, fresh=bool(wanted.moment) and not asked.dry_run)
        said = _sentence(config, asked, found, way)
        if asked.dry_run:
            print(f"Would restore {said}")
            return 0
        print(f"This restores {said}")
        _ask(asked)
        with interruptible():
            _restore(config, asked, wanted, found, way)
    return 0


def chosen(
    config: Config, asked: argparse.Namespace, wanted: plan.Target, fresh: bool = False
) -> tuple[recovery.Found, plan.Chosen]:
    """Return what the repository has, and what of it is chosen.

    fresh
        Whether the running server is to archive what it has written: what is asked for may be in the segment that it
        writes to.

    Raises Refused when that does not get into the repository, or when nothing there brings back what is wanted.
    """
    up = serving(config)
    segment = _switch(config) if fresh and up else None
    until = time.monotonic() + _SWITCHED_SECONDS
    while True:
        found = recovery.look(config, asked.repository, None if up else config.data)
        # A new host's cluster is not the repository's.
        ours = recovery.identifier(config.data) == found.cluster
        if segment is None or not ours or plan.segment_number(segment) in found.archive.sums:
            return found, plan.choose(wanted, found.backups, found.lines, found.archive, asked.backup)
        if time.monotonic() > until:
            raise Refused(
                f"{segment} does not get into repository {asked.repository}, and what was written last is in it: stop "
                f"the server (systemctl stop {config.unit}), then it is taken from {config.data}/pg_wal"
            )


def require_room(config: Config, way: plan.Chosen) -> None:
    """Raise Refused when there is no room for another copy of the data."""
    free, needed = shutil.disk_usage(config.data.parent).free, way.backup.size + _MARGIN
    if free < needed:
        raise Refused(f"{config.data.parent}: has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed")


def _sentence(config: Config, asked: argparse.Namespace, found: recovery.Found, way: plan.Chosen) -> str:
    """Return what will happen. Raises Refused when it cannot."""
    require_room(config, way)
    marker = made(config)
    said = plan.summary(way, datetime.now(UTC))
    if asked.repository != 1:
        said += f" in repository {asked.repository}"
    if found.wal:
        said += f" and of {' and '.join(map(str, found.wal))}"
    there = config.data.exists() and any(config.data.iterdir())
    if there and marker == found.cluster and config.data / "pg_wal" not in found.wal and not serving(config):
        said += f", without {config.data}/pg_wal, which cannot be read,"
    said += f" into {_new(config)}"
    if marker != found.cluster:
        said += f", cluster {found.cluster} in place of {marker or 'none'}"
    if not there:
        return f"{said}, and puts it at {config.data}, where nothing is."
    stopped = "" if way.target.moment and serving(config) else ", for which PostgreSQL is stopped from the beginning"
    return f"{said}{stopped}, checks it, and swaps it with {config.data}, which is kept as {config.data}.before-TIME."


def _ask(asked: argparse.Namespace) -> None:
    """Let somebody agree. Raises Refused otherwise."""
    if asked.yes:
        return
    if not sys.stdin.isatty():
        raise Refused("nobody is there to ask: --yes says yes beforehand")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("not done")


def _restore(
    config: Config, asked: argparse.Namespace, wanted: plan.Target, found: recovery.Found, way: plan.Chosen
) -> None:
    """Do it; whatever goes wrong before the swap leaves everything as it was."""
    begun, new = time.monotonic(), _new(config)
    was_up, before = _active(config), _read(config)
    still = None
    try:
        if not (wanted.moment and serving(config)):
            _write(config, Journal())
            _stop(config)
            still = recovery.control(config.data)
            # It archives its last segment when it ends.
            found, way = chosen(config, asked, wanted)
        with scratch.Scratch(config, NAME, new, network=asked.repository > 1, wal=found.wal) as room:
            reached = recovery.recover(room, asked.repository, way, keep=True)
            print(_reached(wanted, reached))
            recovery.stop(room)
            recovery.check(room)
            print(f"every page of it has the checksum it should have ({time.monotonic() - begun:.0f} s)")
            recovery.clean(new)
            if still is not None and recovery.control(config.data) != still:
                raise Failed("somebody started the server meanwhile: what it wrote would be lost; begin again")
            room.keep = True
    except BaseException:
        if was_up:
            _resume(config)
        if before:
            _write(config, before)
        else:
            _journal(config).unlink(missing_ok=True)
        raise
    # From here on it is faster to go on than to go back.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kept = f"{config.data}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    journal = Journal(new.stat().st_ino, kept, 0.0, found.cluster)
    _swap(config, journal)
    _finish(config, _start(config, journal))
    print(f"done in {time.monotonic() - begun:.0f} s")


def _reached(wanted: plan.Target, reached: recovery.Reached) -> str:
    """Return where the recovery ended."""
    last = f"last commit {times.shown(reached.commit)}" if reached.commit else "no commit after the backup"
    said = f"recovered to {reached.lsn} ({last}), on the new time line {reached.line}"
    if reached.short and wanted.moment:
        said += f"; nothing later was committed up to {times.shown(wanted.moment)}"
    return said


def _swap(config: Config, journal: Journal) -> None:
    """Put the new directory in place of the old one; from one moment to the next where there is an old one."""
    new = _new(config)
    # What the recovery wrote is on the disk before anything points to it.
    os.sync()
    _write(config, journal)
    _stop(config)
    if config.data.exists():
        _exchange(new, config.data)
        new.rename(journal.kept)
    else:
        new.rename(config.data)
    _sync(config.data.parent)


def _start(config: Config, journal: Journal) -> Journal:
    """Start the server on the new directory, and return when its line came into use; what ran before if it fails."""
    old = config.marker.read_text(encoding="utf-8") if config.marker.exists() else None
    if (old or "").strip() != journal.cluster:
        _replace(config.marker, f"{journal.cluster}\n")
    _introduce(config, journal.cluster)
    journal = dataclasses.replace(journal, live_since=journal.live_since or time.time())
    _write(config, journal)
    try:
        container.run(["systemctl", "start", config.unit], timeout=400)
        # Healthy is what accepts connections, also if it then refuses each.
        container.sql(config, "select 1", config.database)
    except Failed as error:
        _go_back(config, journal, old, f"the restored server does not work: {error}")
    journal = dataclasses.replace(journal, served=True)
    _write(config, journal)
    return journal


def _go_back(config: Config, journal: Journal, marker: str | None, why: str) -> NoReturn:
    """Let what ran before run again. Raises Failed with why, and with what is now."""
    kept = Path(journal.kept)
    if not kept.exists():
        _journal(config).unlink()
        raise Failed(why)
    _stop(config)
    _exchange(config.data, kept)
    failed = kept.with_name(kept.name.replace(".before-", ".failed-"))
    kept.rename(failed)
    if marker:
        _replace(config.marker, marker)
    since = time.time()
    try:
        container.run(["systemctl", "start", config.unit], timeout=400)
    except Failed as error:
        _journal(config).unlink()
        raise Failed(
            f"{why}; the restored data is in {failed}, and what was there before does not start: {error}"
        ) from None
    why += f"; what ran before runs again, and the restored data is in {failed}"
    # The new line may be in the archive: from now on it is the old one that counts.
    _write(config, Journal(_inode(config.data), live_since=since, cluster=(marker or "").strip(), served=True))
    try:
        _back_up(config, since)
    except Failed as error:
        raise Failed(f"{why}; it has no new base backup yet: {error}") from None
    _journal(config).unlink()
    raise Failed(why)


def _resume(config: Config) -> None:
    """Start the server that a restore has stopped; one that cannot start may be why there is a restore at all."""
    try:
        container.run(["systemctl", "start", config.unit], timeout=_RESUMED_SECONDS)
    except Failed as error:
        print(f"{config.unit} is not up again: {error}")


def _stop(config: Config) -> None:
    """Stop the server, also one whose unit could not start: that leaves its container running (systemd.service(5))."""
    container.run(["systemctl", "stop", config.unit], timeout=120)
    if container.running(config):
        container.run(["docker", "stop", "--time=60", config.container], timeout=120)


def _introduce(config: Config, cluster: str) -> None:
    """Let every repository take the cluster's WAL: on a new host one may be for the cluster that it began with.

    Before the server starts, for its archiver would hold pgBackRest's lock. What goes wrong here shows in the backup.
    """
    with contextlib.suppress(Failed):
        repositories = pgbackrest.info(config).repositories
        there = [repositories[number].cluster for number in config.repositories if not repositories[number].why]
        if None in there:
            pgbackrest.run(config, "--no-online", "stanza-create")
        if set(there) - {None, cluster}:
            pgbackrest.run(config, "--no-online", "stanza-upgrade")


def _finish(config: Config, journal: Journal) -> None:
    """Let every repository have a backup that needs nothing of before."""
    if journal.kept and Path(journal.kept).exists():
        print(f"{config.data} is the restored one; what was there is kept as {journal.kept}")
    try:
        _back_up(config, journal.live_since)
    except Failed as error:
        raise Failed(
            f"the database runs, but has no new base backup yet: {error}; when that is mended: mailhost-pg backup"
        ) from None
    _journal(config).unlink()
    for backup in pgbackrest.info(config).of(journal.cluster)[-1:]:
        print(f"new base backup: {backup.label}")


def _back_up(config: Config, live_since: float) -> None:
    """Let every repository have a full backup that says since when its line is the one in use.

    One that fails does not keep the other from getting its own. Raises Failed with what each said.
    """
    note, failures = f"{live_since:.3f}", []
    there = {backup.repository for backup in pgbackrest.info(config).of() if backup.notes.get(plan.LIVE_SINCE) == note}
    for number in sorted({*config.repositories} - there):
        try:
            pgbackrest.run(
                config, f"--repo={number}", "--type=full", f"--annotation={plan.LIVE_SINCE}={note}", "backup"
            )
        except Failed as error:
            failures.append(f"repository {number}: {error}")
    if failures:
        raise Failed("; ".join(failures))


def clear_export(config: Config) -> Path:
    """Remove what an export has made beside the data, and return where it is made."""
    directory = config.data.with_name(f"{config.data.name}.export")
    scratch.remove(EXPORT, directory)
    return directory


def tidy(config: Config) -> None:
    """Bring to an end what a killed restore left: back to what was before the swap, forward after it.

    Nothing stays of a killed export either. A backup that is still missing keeps nobody from what he is about to do.
    """
    container.remove(NAME)
    clear_export(config)
    new, journal = _new(config), _read(config)
    swapped = journal is not None and journal.inode is not None and _inode(config.data) == journal.inode
    if journal and swapped and not journal.served:
        if new.exists():
            new.rename(journal.kept)
        print("an earlier restore was cut off after the swap: it is brought to its end")
        _stop(config)
        journal = _start(config, journal)
    if new.exists():
        print(f"an earlier restore was cut off: {new} is removed")
        shutil.rmtree(new)
    if journal and swapped:
        try:
            _finish(config, journal)
        except Failed as error:
            print(error)
    elif journal:
        # Put in another's place by somebody since then: he knows whether it is to run.
        if not journal.served:
            _resume(config)
        _journal(config).unlink()


def _switch(config: Config) -> str:
    """Let the running server end the segment that it writes to, and return its name.

    An idle one does not switch: the segment before its position is then one that it has ended already.
    """
    return container.sql(config, "select pg_walfile_name(pg_switch_wal() - 1)")


def serving(config: Config) -> bool:
    """Whether the server answers."""
    try:
        return container.running(config) and container.sql(config, "select 1") == "1"
    except Failed:
        return False


def _active(config: Config) -> bool:
    """Whether the unit is started, or on the way to that."""
    return container.run(["systemctl", "is-active", config.unit], codes=range(256)).strip() in ("active", "activating")


def _new(config: Config) -> Path:
    """Return where the new data directory is made."""
    return config.data.with_name(f"{config.data.name}.restoring")


def _journal(config: Config) -> Path:
    return config.state / "restore.json"


def _read(config: Config) -> Journal | None:
    path = _journal(config)
    return Journal(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _write(config: Config, journal: Journal) -> None:
    _replace(_journal(config), json.dumps(dataclasses.asdict(journal)) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a file of root's whole, and so that a power cut leaves the old one or this."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.chmod(0o644)
    new.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Let the names in a directory be on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two directories' names at once (renameat2(2), RENAME_EXCHANGE)."""
    at, exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), exchange):
        raise Failed(f"{one} and {other}: cannot be exchanged: {os.strerror(ctypes.get_errno()).lower()}")


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let signals that end a process, such as that of a lost login, be exceptions, so that all is put back."""

    def leave(number: int, frame: object) -> None:
        raise Failed(f"ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
    yield
