"""What a repository has, and what of it brings a moment back: backup, time line, segments. Pure.

A restore that ends before the newest moment starts a new time line, and what the database wrote after that moment stays
on the one it left. Which line a moment is on is thus a question of when each line came into use, not of which is the
newest: recovery_target_timeline = latest gives the rows of another history without a word.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from . import times
from .config import Refused
from .pgbackrest import Backup

# Segments of 16 MB, which initdb makes unless it is told otherwise.
_SEGMENT = 1 << 24
_SEGMENT_FILE = re.compile(r"(?:^|/)([0-9A-F]{24})-([0-9a-f]{40})(?:\.\w+)?$")
_HISTORY_FILE = re.compile(r"(?:^|/)([0-9A-F]{8})\.history$")
# In place of the SHA-1 of a segment that the host has and the archive has not.
LOCAL = "local"
# Note on the backup that a restore ends with: when its line came into use, in seconds since 1970.
LIVE_SINCE = "live-since"
_ELSEWHERE = "another repository may have more (--repository)"


@dataclasses.dataclass(frozen=True)
class Line:
    """A time line: the lines it comes from, each with the LSN where it was left, and when it came into use."""

    number: int
    ancestors: tuple[tuple[int, int], ...] = ()
    born: float = 0.0


@dataclasses.dataclass(frozen=True)
class Segments:
    """The segments in an archive: their SHA-1 by line and number, and when the newest of a line was archived."""

    sums: Mapping[tuple[int, int], str]
    newest: Mapping[int, float]
    histories: Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked for: a moment, a transaction's commit, the end of a backup, else all that there is."""

    moment: datetime.datetime | None = None
    transaction: int | None = None
    end_of_backup: bool = False


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What brings a target back."""

    target: Target
    backup: Backup
    line: Line
    path: Mapping[str, str]  # name and SHA-1 of the segments from the backup's first one on, "" or LOCAL on the host
    missing: str | None  # the segment that is missing although there are later ones
    until: float | None  # when the line was left, None while it is in use
    before: int | None = None  # LSN that is not passed: the line left there had nothing archived


def parse_lsn(text: str) -> int:
    """Return an LSN as a number: 1/2000028."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def segment_of(lsn: int) -> int:
    """Return the number of the segment that an LSN is in."""
    return lsn // _SEGMENT


def segment_name(line: int, number: int) -> str:
    """Return a segment's file name, 24 hexadecimal digits."""
    return f"{line:08X}{number >> 8:08X}{number & 0xFF:08X}"


def segment_number(name: str) -> tuple[int, int]:
    """Return line and number of a segment's file name."""
    return int(name[:8], 16), (int(name[8:16], 16) << 8) + int(name[16:24], 16)


def parse_archive(listing: Mapping[str, Mapping[str, Any]]) -> Segments:
    """Return the segments of an archive from ``pgbackrest repo-ls --recurse --output=json``."""
    sums: dict[tuple[int, int], str] = {}
    newest: dict[int, float] = {}
    histories: dict[int, float] = {}
    for name, entry in listing.items():
        if segment := _SEGMENT_FILE.search(name):
            line, number = segment_number(segment[1])
            sums[line, number] = segment[2]
            newest[line] = max(newest.get(line, 0.0), float(entry["time"]))
        elif history := _HISTORY_FILE.search(name):
            histories[int(history[1], 16)] = float(entry["time"])
    return Segments(sums, newest, histories)


def parse_history(text: str) -> tuple[tuple[int, int], ...]:
    """Return the lines that a .history file names, each with the LSN where it was left."""
    rows = [row.split() for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#")]
    return tuple((int(row[0]), parse_lsn(row[1])) for row in rows)


def with_local(archive: Segments, names: Iterable[str], digest: str = "") -> Segments:
    """Return an archive with segments of the host's own that are not in it, of which no SHA-1 is known.

    digest
        What stands in its place: LOCAL for those that are known to be whole.
    """
    found = (segment_number(name) for name in names if re.fullmatch("[0-9A-F]{24}", name))
    return dataclasses.replace(archive, sums={**dict.fromkeys(found, digest), **archive.sums})


def lines(
    backups: Iterable[Backup], archive: Segments, ancestors: Mapping[int, tuple[tuple[int, int], ...]]
) -> list[Line]:
    """Return the time lines in the order they came into use; one that the host went back to is there again.

    ancestors
        What each line's .history file says; the first line has none.

    A history file is archived first of all on its line. Should the archive have been out of reach then, a note on the
    backup that ended the restore, or that backup's own time, is nearer. A backup on a line that was left says that the
    host has gone back to it, also where no note does.
    """
    known = sorted(backups, key=lambda backup: backup.start)
    made = []
    for number in {line_of(backup) for backup in known} | {line for line, _ in archive.sums} | set(ancestors):
        before = ancestors.get(number, ())
        on_it = [backup for backup in known if line_of(backup) == number]
        notes = {float(backup.notes[LIVE_SINCE]) for backup in on_it if LIVE_SINCE in backup.notes}
        moments = [*notes, *(backup.start.timestamp() for backup in on_it)]
        if number in archive.histories:
            moments.append(archive.histories[number])
        born = min(moments, default=math.inf) if before else 0.0
        made += [Line(number, before, since) for since in {born, *notes}]
    for backup in known:
        at = backup.start.timestamp()
        used = max((line for line in made if line.born <= at), key=_order)
        if used.number != line_of(backup):
            made.append(Line(line_of(backup), ancestors.get(line_of(backup), ()), at))
    return sorted(made, key=_order)


def _order(line: Line) -> tuple[float, int]:
    return line.born, line.number


def choose(
    target: Target, backups: list[Backup], known: list[Line], archive: Segments, label: str | None = None
) -> Chosen:
    """Return what brings a target back.

    known
        The time lines in the order they came into use.
    label
        The backup to begin with, None for the last one that ended before the target.

    Raises Refused when there is nothing that does.
    """
    if not backups:
        raise Refused("there is no base backup in this repository")
    named = next((backup for backup in backups if backup.label == label), None)
    if label is not None and named is None:
        raise Refused(f"there is no backup {label}: there are {', '.join(backup.label for backup in backups)}")
    by_number = {line.number: line for line in known}
    in_use = [one for one in known if target.moment is None or one.born <= target.moment.timestamp()]
    if not in_use:
        first = min(backups, key=lambda backup: backup.stop)
        moment = times.shown(target.moment) if target.moment else "the end"
        ended = times.shown(first.stop)
        raise Refused(f"{moment} is not after the end of the first backup, {first.label}: {ended}; {_ELSEWHERE}")
    line = in_use[-1]
    until, before = min((one.born for one in known if one.born > line.born), default=None), None
    if target.end_of_backup and named:
        line = by_number[line_of(named)]
    else:
        line, before = _with_wal(line, backups, by_number, archive)
    usable = [
        backup
        for backup in backups
        if _leads_to(backup, line)
        and _ended(backup, target)
        and (before is None or parse_lsn(backup.stop_lsn) <= before)
    ]
    if named is not None:
        usable = [backup for backup in usable if backup == named]
    if not usable:
        raise Refused(_none(target, line, backups, named))
    # The later on the way to the target, the less is to be replayed. One with wrong pages is the last resort.
    backup = max(usable, key=lambda one: (not one.damaged, parse_lsn(one.stop_lsn)))
    path, last, missing = _path(backup, line, archive)
    if last < segment_of(parse_lsn(backup.stop_lsn) - 1):
        gone = missing or segment_name(line.number, last + 1)
        raise Refused(f"{gone} is missing in the archive, and backup {backup.label} is nothing without it")
    return Chosen(target, backup, line, path, missing, until, before)


def _with_wal(
    line: Line, backups: list[Backup], known: Mapping[int, Line], archive: Segments
) -> tuple[Line, int | None]:
    """Return the line to follow, and the LSN to stop before: where nothing of a line is kept, it ends where it began.

    Without that PostgreSQL would go on in the segment that the line before was left in, with what came after there.
    """
    before = None
    while line.ancestors and not any(number == line.number for number, _ in archive.sums):
        if any(line_of(backup) == line.number for backup in backups):
            break
        number, before = line.ancestors[-1]
        if number not in known:
            raise Refused(
                f"nothing of time line {number} is kept, which time line {line.number} began on; {_ELSEWHERE}"
            )
        line = known[number]
    return line, before


def line_of(backup: Backup) -> int:
    """Return the time line that a backup was made on."""
    return segment_number(backup.start_wal)[0]


def _leads_to(backup: Backup, line: Line) -> bool:
    """Whether a line has the backup in its past."""
    return line_of(backup) == line.number or any(
        line_of(backup) == number and parse_lsn(backup.stop_lsn) <= left for number, left in line.ancestors
    )


def _ended(backup: Backup, target: Target) -> bool:
    """Whether a backup ended before the target; its time is known to the second."""
    return target.moment is None or backup.stop + datetime.timedelta(seconds=1) <= target.moment


def _none(target: Target, line: Line, backups: list[Backup], named: Backup | None) -> str:
    """Return why no backup is usable."""
    moment = times.shown(target.moment) if target.moment else "the end"
    if named is not None and not _leads_to(named, line):
        return f"{named.label} is on time line {line_of(named)}, and the database was on {line.number} at {moment}"
    if named is not None:
        return f"{named.label} ended at {times.shown(named.stop)}: that is not before {moment}"
    leading = [backup for backup in backups if _leads_to(backup, line)]
    if not leading:
        return f"no backup leads to time line {line.number}, which the database was on at {moment}"
    first = min(leading, key=lambda backup: backup.stop)
    return (
        f"{moment} is not after the end of the first backup that leads there, {first.label}: {times.shown(first.stop)}"
    )


def _path(backup: Backup, line: Line, archive: Segments) -> tuple[dict[str, str], int, str | None]:
    """Return the segments that lead from a backup along a line, the last before a gap, and what is missing there."""
    path: dict[str, str] = {}
    numbers = set()
    start = segment_number(backup.start_wal)[1]
    # A line begins with a copy of the segment in which it left the one before: of that number both may be there.
    for number, left in (*line.ancestors, (line.number, None)):
        end = None if left is None else segment_of(left)
        for (on, segment), digest in archive.sums.items():
            if on == number and segment >= start and (end is None or segment <= end):
                path[segment_name(on, segment)] = digest
                numbers.add(segment)
    last = start - 1
    while last + 1 in numbers:
        last += 1
    missing = segment_name(line.number, last + 1) if any(number > last for number in numbers) else None
    return path, last, missing


def summary(chosen: Chosen, now: datetime.datetime) -> str:
    """Return in words what would be brought back, from what."""
    target, backup = chosen.target, chosen.backup
    if target.end_of_backup:
        what = "the state at the end of the backup"
    elif target.moment is None:
        what = "the newest state that there is"
    else:
        what = f"the state of {times.shown(target.moment)}, {_ago(now - target.moment)} ago"
    left = f" (left at {times.shown(times.of(chosen.until))})" if chosen.until else ""
    return (
        f"{what}, from {backup.kind} backup {backup.label} of {times.shown(backup.stop)} "
        f"({backup.size / 1e6:.0f} MB) and the WAL of time line {chosen.line.number}{left}"
    )


def _ago(span: datetime.timedelta) -> str:
    """Return a span of time for people: 3 h 12 min."""
    minutes = max(0, round(span.total_seconds() / 60))
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
