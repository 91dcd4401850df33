"""What the tool is told by /etc/mailhost-pg.json, which has nothing secret; and how it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/mailhost-pg.json")
LOCK = Path("/run/mailhost-pg.lock")
# The check tidies up every five minutes: what an operator types is not refused for that moment.
_PATIENCE = 5.0
_BUSY = "is at work with the repository: wait for it to end"


class Refused(Exception):
    """What was asked for is not done; the message is one sentence for the operator."""


class Failed(Exception):
    """What was asked for went wrong; the message is what the program that failed said."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The host's settings.

    image is the container's, uid PostgreSQL's in it; data, archive and backups are directories of the host, state one
    of the tool's own, project Compose's, marker the file with the system identifier of the cluster that may be started;
    retention_days, archive_timeout (seconds) and offsite (kind of the second repository, or None) as in the pillar;
    drill, alarms and hook too; sockets is the directory with the server's; tail the one that WAL goes to as it is
    written, or None.
    """

    image: str
    uid: int
    container: str
    unit: str
    project: Path
    data: Path
    marker: Path
    archive: Path
    backups: Path
    sockets: Path
    tail: Path | None
    stanza: str
    database: str
    state: Path
    full_weekday: str
    retention_days: int
    archive_timeout: int
    offsite: str | None
    drill: dict[str, Any]
    alarms: dict[str, Any]
    hook: str | None

    @property
    def repositories(self) -> tuple[int, ...]:
        """The numbers of the repositories, as pgBackRest has them."""
        return (1, 2) if self.offsite else (1,)


def load(path: Path = SETTINGS) -> Config:
    """Return the host's settings. Raises Refused when there are none that can be used."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for field in dataclasses.fields(Config):
            if field.type in ("Path", "Path | None") and found[field.name] is not None:
                found[field.name] = Path(found[field.name])
        return Config(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path}: cannot be used ({error}): apply task 2.1.3 again") from None


def made(config: Config) -> str | None:
    """Return the system identifier of the cluster that this host made, None while there is none."""
    try:
        return config.marker.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def alone(wait: bool, lock: Path = LOCK, what: str = _BUSY) -> Iterator[None]:
    """Hold the lock that backup, restore, drill and verify share; the kernel drops it when the process dies.

    Params: wait, whether another one is waited for to its end; else Raises Refused when it takes more than a moment,
    saying what it does; lock, another one's file.
    """
    until = time.monotonic() + _PATIENCE
    with lock.open("a+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(f"another mailhost-pg {what}") from None
                time.sleep(0.1)
        yield
