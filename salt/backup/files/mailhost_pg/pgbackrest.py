"""pgBackRest, and what it says of its repositories."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import container
from .config import Config, Failed


@dataclasses.dataclass(frozen=True)
class Backup:
    """A base backup: label, kind (full, diff, incr), repository, start and end, LSNs, and sizes in bytes.

    cluster is the system identifier of what it is a backup of; prior what else it needs; damaged, whether pgBackRest
    found pages in it whose checksums are wrong; notes what --annotation wrote on it.
    """

    label: str
    kind: str
    repository: int
    start: datetime
    stop: datetime
    start_lsn: str
    stop_lsn: str
    start_wal: str
    stop_wal: str
    size: int
    repository_size: int
    cluster: str
    prior: str | None
    damaged: bool
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository: number, the cluster it takes WAL of, why it cannot be looked at (None: it can), its WAL's ends.

    ids are the numbers that pgBackRest gave that cluster: another one when the host went back to it.
    """

    number: int
    cluster: str | None
    why: str | None
    first_wal: str | None
    last_wal: str | None
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Info:
    """What there is: repositories by number, and backups of all clusters, oldest first."""

    repositories: dict[int, Repository]
    backups: tuple[Backup, ...]

    def of(self, cluster: str | None = None, repository: int | None = None) -> list[Backup]:
        """Return the backups of a cluster, in a repository, oldest first; None: of any."""
        return [
            backup
            for backup in self.backups
            if cluster in (None, backup.cluster) and repository in (None, backup.repository)
        ]


def command(config: Config, *words: str) -> list[str]:
    """Return pgBackRest's argument list."""
    return ["pgbackrest", f"--stanza={config.stanza}", *words]


def run(config: Config, *words: str, timeout: float | None = None) -> str:
    """Run pgBackRest where the cluster runs, or, while it does not, beside it; return what it printed.

    Params: words, its command and options; timeout in seconds. Raises Failed with its words.
    """
    argv = command(config, *words)
    if since := container.entered(config):
        try:
            return container.inside(config, argv, timeout=timeout)
        except Failed:
            # A server that crashes again and again takes with it what runs beside it in its container.
            if container.entered(config) == since:
                raise
    there = container.beside(config, str(config.data), network=bool(config.offsite), read_only=False)
    return container.run([*there, f"--entrypoint={argv[0]}", config.image, *argv[1:]], timeout=timeout)


def info(config: Config, words: Sequence[str] = ()) -> Info:
    """Return what is in the repositories. Params: words, more options. Raises Failed with pgBackRest's words."""
    said = run(config, "--output=json", *words, "info", timeout=300)
    try:
        return parse(json.loads(said))
    except (ValueError, KeyError) as error:
        raise Failed(f"pgbackrest info: cannot be read ({error})") from None


def parse(said: list[dict[str, Any]]) -> Info:
    """Return what ``pgbackrest info --output=json`` printed."""
    stanza = said[0] if said else {}
    systems = {(db["repo-key"], db["id"]): str(db["system-id"]) for db in stanza.get("db", [])}
    wal = {
        (archive["database"]["repo-key"], archive["database"]["id"]): (archive["min"], archive["max"])
        for archive in stanza.get("archive", [])
    }
    repositories = {}
    for repo in stanza.get("repo", []):
        number = repo["key"]
        latest = max((db for key, db in systems if key == number), default=None)
        first, last = wal.get((number, latest), (None, None))
        why = container.plain(repo["status"]["message"]) if repo["status"]["code"] == 99 else None
        cluster = systems.get((number, latest))
        ids = tuple(db for (key, db), system in systems.items() if (key, system) == (number, cluster))
        repositories[number] = Repository(number, cluster, why, first, last, ids)
    backups = tuple(sorted((_backup(row, systems) for row in stanza.get("backup", [])), key=lambda found: found.stop))
    return Info(repositories, backups)


def _backup(row: dict[str, Any], systems: dict[tuple[int, int], str]) -> Backup:
    number = row["database"]["repo-key"]
    return Backup(
        label=row["label"],
        kind=row["type"],
        repository=number,
        start=datetime.fromtimestamp(row["timestamp"]["start"], UTC),
        stop=datetime.fromtimestamp(row["timestamp"]["stop"], UTC),
        start_lsn=row["lsn"]["start"],
        stop_lsn=row["lsn"]["stop"],
        start_wal=row["archive"]["start"],
        stop_wal=row["archive"]["stop"],
        size=row["info"]["size"],
        repository_size=row["info"]["repository"]["delta"],
        cluster=systems[number, row["database"]["id"]],
        prior=row["prior"],
        damaged=bool(row.get("error")),
        notes=row.get("annotation") or {},
    )


def archive_of(config: Config) -> Path | None:
    """Return the directory of the archive of the cluster that runs; None while there is none."""
    places = [path for path in (config.archive / config.stanza).glob("*-*") if path.is_dir()]
    # Named by major version, and a number that goes up with each cluster.
    return max(places, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
