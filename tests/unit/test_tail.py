"""WAL as it is written: what of it is kept, what the server goes on with, and what is said when nobody takes it."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

import mailhost_backup
from mailhost_pg import config, plan, tail

CLUSTER = "7711192874576044046"
CURRENT, KEPT = "000000020000000000000009", "000000020000000000000007"


@pytest.fixture
def host(tmp_path: Path) -> config.Config:
    """A host with an archive that has segment 7 of line 2, and a directory for the tail."""
    (tmp_path / "wal_tail").mkdir()
    archive = tmp_path / "archive/mail/17-1/0000000200000000"
    archive.mkdir(parents=True)
    (archive / f"000000020000000000000007-{7:040x}.zst").touch()
    given: dict[str, Any] = {field.name: None for field in dataclasses.fields(config.Config)}
    given |= {
        "archive": tmp_path / "archive",
        "stanza": "mail",
        "retention_days": 7,
        "uid": 999,
        "tail": tmp_path / "wal_tail",
    }
    return config.Config(**given)


def put(place: Path, name: str, cluster: str = CLUSTER, flags: int = 2, size: int = 1 << 24) -> Path:
    """Put a segment into a directory, with the header that PostgreSQL writes."""
    path = place / name
    path.parent.mkdir(exist_ok=True)
    # magic, flags, time line, address, rest of a record, padding, cluster
    path.write_bytes(struct.pack("=HHIQI4xQ", 0xD116, flags, 2, 0, 0, int(cluster)))
    os.truncate(path, size)
    return path


def there(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def place_of(host: config.Config) -> Path:
    assert host.tail
    return host.tail


def test_what_a_restore_can_read(host: config.Config) -> None:
    place = place_of(host)
    put(place, "000000020000000000000008")
    put(place, "000000020000000000000009.partial")
    # Just begun, of another cluster, cut off; and what is no segment.
    put(place, "00000002000000000000000A.partial", flags=0)
    put(place, "00000002000000000000000B", cluster="42")
    put(place, "00000002000000000000000C", size=1 << 20)
    (place / "00000002.history").touch()
    found = tail.readable(place, CLUSTER)
    assert found == {"000000020000000000000008": True, "000000020000000000000009": False}
    assert tail.readable(place / "nowhere", CLUSTER) == {}
    assert tail.places(host) == [place, place / "left"]
    assert tail.places(dataclasses.replace(host, tail=None)) == []


def test_the_archive_goes_before_it() -> None:
    archive = plan.Segments({(2, 7): "sum"}, {}, {})
    names = ["000000020000000000000007", "000000020000000000000008"]
    both = plan.with_local(plan.with_local(archive, names, plan.LOCAL), [*names, "000000020000000000000009"])
    assert both.sums == {(2, 7): "sum", (2, 8): plan.LOCAL, (2, 9): ""}


@pytest.mark.parametrize(
    ("names", "goes_on"),
    [
        ([], True),
        (["000000020000000000000009.partial"], True),
        (["000000020000000000000008", "000000020000000000000009.partial"], True),
        # The server is at the very end of the segment.
        (["000000020000000000000009"], True),
        (["00000002000000000000000A.partial"], True),
        # Away for a while: the server has all since.
        (["000000020000000000000007.partial"], True),
        # The slot was lost, and begins later.
        (["000000020000000000000006.partial"], False),
        (["000000020000000000000005"], False),
        # What is ahead of the server, or on a line that it has left.
        (["00000002000000000000000A"], False),
        (["000000010000000000000009.partial"], False),
        (["000000010000000000000008", "000000020000000000000009.partial"], False),
    ],
)
def test_what_the_server_goes_on_with(host: config.Config, names: list[str], goes_on: bool) -> None:
    for name in names:
        put(place_of(host), name)
    assert tail.follows(tail.pieces(place_of(host)), CURRENT, KEPT) == goes_on


def test_what_the_archive_has_is_pruned(host: config.Config) -> None:
    place, old = place_of(host), time.time() - 8 * 86400
    for name in ("000000020000000000000007", "000000020000000000000008", "000000020000000000000009.partial"):
        put(place, name)
    # On its way into the archive.
    (host.archive / f"mail/17-1/0000000200000000/000000020000000000000008-{8:040x}.zst.pgbackrest.tmp").touch()
    put(place, "left/000000020000000000000007.partial")
    put(place, "left/000000010000000000000003.partial")
    os.utime(put(place, "left/000000010000000000000002"), (old, old))
    tail.prune(host, place)
    assert there(place) == [
        "000000020000000000000008",
        "000000020000000000000009.partial",
        "left/000000010000000000000003.partial",
    ]


def test_what_is_put_aside_is_what_the_archive_does_not_have(
    host: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, given = place_of(host), []
    monkeypatch.setattr(os, "chown", lambda path, *ids: given.append((path, ids)))
    for name in ("000000020000000000000007", "000000020000000000000008.partial"):
        put(place, name)
    (place / "00000002.history").touch()
    tail.put_aside(host, place)
    assert there(place) == ["left/000000020000000000000008.partial"]
    # A restore reads it as PostgreSQL's user.
    assert given == [(place / "left", (999, 0))]


ROLE = mailhost_backup.ROLE


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        (None, {"role": None, "slot": None}),
        ({"role": ROLE, "slot": True}, {}),
        ({"role": ROLE, "slot": False}, {"slot": None}),
        ({"role": {**ROLE, "superuser": True}, "slot": True}, {"role": "with other rights"}),
    ],
)
def test_role_and_slot(found: Any, changes: dict[str, Any]) -> None:
    planned = mailhost_backup.plan_tail(found)
    assert {name: change["old"] for name, change in planned.items()} == changes
    statements = mailhost_backup.tail_sql(planned)
    assert ("create role" in statements) == ("role" in changes)
    assert ("pg_create_physical_replication_slot" in statements) == ("slot" in changes)


def test_what_there_is_of_it_ends() -> None:
    planned = mailhost_backup.plan_no_tail({"unit": True, "slot": False, "wal": True})
    assert planned == {"unit": {"old": "there", "new": None}, "wal": {"old": "there", "new": None}}


SLOT = {"active": True, "status": "reserved", "idle": None}


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (SLOT, None),
        # It connects again.
        ({**SLOT, "active": False, "idle": 5.0}, None),
        ({**SLOT, "active": False, "idle": 61.0}, "nobody reads its slot"),
        ({**SLOT, "active": False}, "nobody reads its slot"),
        ({**SLOT, "status": "lost"}, "its slot is lost"),
        (None, "its slot is not there"),
    ],
)
def test_what_is_said_when_nobody_takes_it(slot: Any, words: str | None) -> None:
    said = mailhost_backup.judge_tail(slot)
    assert said == (f"WAL is not streamed: {words}" if words else None)
