"""WAL as it was written: what pg_receivewal has put into a directory beside the archive, and what of it is needed.

The archive has whole segments only; the tail has the one that is written to as well. In a directory below, left, is
what a time line that was left had beyond the archive: a later restore may want it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from . import pgbackrest, plan
from .config import Config

LEFT = "left"
_FILE = re.compile(r"([0-9A-F]{24})(\.partial)?")
_SIZE = 1 << 24
# XLogLongPageHeaderData, which a segment begins with: its flag in xlp_info, and where xlp_sysid is (xlog_internal.h).
_INFO, _LONG, _CLUSTER = 2, 0x0002, 24


@dataclasses.dataclass(frozen=True)
class Piece:
    """A segment in the directory: its name, and whether all of it is there."""

    name: str
    whole: bool
    path: Path


def pieces(place: Path) -> list[Piece]:
    """Return the segments in a directory, none when it is not there."""
    matched = [(path, _FILE.fullmatch(path.name)) for path in sorted(place.glob("*"))]
    return [Piece(found[1], not found[2], path) for path, found in matched if found]


def places(config: Config) -> list[Path]:
    """Return the directories with WAL as it was written, the one in use first; none where that is not asked for."""
    return [config.tail, config.tail / LEFT] if config.tail else []


def readable(place: Path, cluster: str) -> dict[str, bool]:
    """Return the segments of a cluster in a directory, by name whether they are whole.

    One that pg_receivewal has only just begun has nothing in it yet.
    """
    return {piece.name: piece.whole for piece in pieces(place) if _cluster(piece.path) == cluster}


def _cluster(path: Path) -> str | None:
    """Return the system identifier that a segment begins with, None without one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_CLUSTER + 8)
            size = stream.seek(0, 2)
    except FileNotFoundError:
        return None
    if size != _SIZE or not struct.unpack_from("=H", head, _INFO)[0] & _LONG:
        return None
    return str(struct.unpack_from("=Q", head, _CLUSTER)[0])


def follows(there: Iterable[Piece], current: str, kept: str) -> bool:
    """Return whether a server goes on with what is there: else pg_receivewal would ask it for what it does not have.

    current
        The segment that the server writes to.
    kept
        The first one that it keeps for the slot.
    """
    found = list(there)
    if not found:
        return True
    line, number = plan.segment_number(current)
    last = max(found, key=lambda piece: (plan.segment_number(piece.name)[1], piece.whole))
    wanted = plan.segment_number(last.name)[1] + last.whole
    first = plan.segment_number(kept)[1]
    return all(plan.segment_number(piece.name)[0] == line for piece in found) and first <= wanted <= number + 1


def put_aside(config: Config, place: Path) -> None:
    """Let pg_receivewal begin anew: what the archive does not have goes into the directory of what was left."""
    for piece in pieces(place):
        if archived(config, piece.name):
            piece.path.unlink()
        else:
            (place / LEFT).mkdir(mode=0o750, exist_ok=True)
            # Who reads it in a restore.
            os.chown(place / LEFT, config.uid, 0)
            piece.path.rename(place / LEFT / piece.path.name)
    # It asks for them again.
    for path in place.glob("*.history*"):
        path.unlink()


def prune(config: Config, place: Path) -> None:
    """Remove what the archive has, and what was left longer ago than backups are kept."""
    for piece in pieces(place):
        if piece.whole and archived(config, piece.name):
            piece.path.unlink()
    oldest = time.time() - 86400 * config.retention_days
    for piece in pieces(place / LEFT):
        if archived(config, piece.name) or piece.path.stat().st_mtime < oldest:
            piece.path.unlink()


def archived(config: Config, name: str) -> bool:
    """Return whether the archive on the host has a segment whole."""
    archive = pgbackrest.archive_of(config)
    # One that is on its way there has a longer name.
    whole = re.compile(rf"{name}-[0-9a-f]{{40}}(\.\w+)?")
    return archive is not None and any(whole.fullmatch(path.name) for path in (archive / name[:16]).glob(f"{name}-*"))
