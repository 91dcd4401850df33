"""The restore drill: what a server's log says, what is missing in an archive, what differs, and the proof."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailhost_pg import drill, heartbeat, proofs, recovery

LIVE = heartbeat.Contents(
    ("mailserver", "postgres"), "0004_heartbeat", {"mail.a": 3, "mail.b": 0}, {"mail.a": "17", "mail.b": "0"}
)
MOMENT = heartbeat.Moment(772, 1795402819.5, "0/A0000E8", "00000001000000000000000A", LIVE)


def test_how_far_a_drill_got() -> None:
    commit = datetime.fromisoformat("2026-11-23 02:59:48.5+00")
    reached = recovery.Reached("0/70004E8", commit, True, None)
    words = "recovery reached 0/70004E8 and not 0/A0000E8, where the live server was: 31 s of writes are lost"
    assert drill.short(reached, MOMENT, "") == words
    assert drill.short(reached, MOMENT, "it is gone") == f"{words} (it is gone)"
    nothing = recovery.Reached(None, None, False, None)
    assert drill.short(nothing, MOMENT, "") == "recovery reached nothing and not 0/A0000E8, where the live server was"


def test_segments_are_those_of_the_cluster_that_runs(tmp_path: Path) -> None:
    digest, name = "a" * 40, "000000010000000000000001"
    for place in ("9-1/0000000100000000", "17-2/0000000100000000", "17-10/0000000200000000"):
        (tmp_path / "mail" / place).mkdir(parents=True)
    (tmp_path / "mail/archive.info").touch()
    (tmp_path / f"mail/17-2/0000000100000000/{name}-{digest}.zst").touch()
    there = tmp_path / "mail/17-10/0000000200000000"
    for file in (
        f"{name[:-1]}2-{digest}.zst",
        f"{name[:-1]}3-{digest}",
        f"{name[:-1]}4-{digest}.zst.pgbackrest.tmp",
        "x.backup",
    ):
        (there / file).touch()
    config: Any = SimpleNamespace(archive=tmp_path, stanza="mail")
    assert {path.name[:24] for path in drill.segment_files(config)} == {f"{name[:-1]}2", f"{name[:-1]}3"}
    assert drill.segment_files(SimpleNamespace(archive=tmp_path / "none", stanza="mail")) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"databases": ("postgres",)}, ["the databases are postgres, and were mailserver, postgres"]),
        ({"schema": "0003_x"}, ["the schema is at 0003_x, and was at 0004_heartbeat"]),
        ({"rows": {"mail.a": 2, "mail.b": 0}}, ["mail.a has 2 rows, and had 3"]),
        ({"rows": {"mail.b": 0}}, ["mail.a is missing"]),
        ({"prints": {"mail.a": "18", "mail.b": "0"}}, ["mail.a has other rows than it had"]),
    ],
)
def test_what_differs_of_a_restored_database(change: dict[str, Any], words: list[str]) -> None:
    assert heartbeat.differences(LIVE, dataclasses.replace(LIVE, **change)) == words


def test_a_heartbeat_is_read_from_what_psql_prints() -> None:
    contents = {
        "databases": list(LIVE.databases),
        "schema": LIVE.schema,
        "tables": {"mail.a": [3, "17"], "mail.b": [0, "0"]},
    }
    wal = {"lsn": MOMENT.lsn, "segment": MOMENT.segment}
    lines = [{"transaction": "772", "at": MOMENT.at}, contents, wal, {}]
    assert heartbeat.parse_moment("\n".join(map(json.dumps, lines))) == MOMENT


def test_tables_are_locked_without_waiting_and_only_while_they_are_counted() -> None:
    lines = heartbeat.moment_sql(["mail.a", 'mail."B"']).splitlines()
    begin, end = lines.index("BEGIN;"), lines.index("COMMIT;") if "COMMIT;" in lines else 0
    assert lines[begin + 1] == 'LOCK TABLE mail.a, mail."B" IN SHARE MODE NOWAIT;'
    assert "INSERT INTO backup.heartbeat" in lines[begin + 2]
    assert end and any("pg_switch_wal" in line for line in lines[end:])


def test_proofs_are_filed_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "drills.jsonl"
    assert proofs.last(path, "7") is None
    said = {"repository": 1, "cluster": "7", "passed": True}
    first, second = ({**said, "finished": f"2026-11-23T0{hour}:00:00+00:00"} for hour in (3, 4))
    proofs.file(path, first)
    assert proofs.last(path, "7") == first
    assert proofs.last(path, "8") is None
    assert proofs.last(path, None) is None
    # A power cut in the middle of a line: it is passed over, and the next proof is not lost to it.
    with path.open("a") as stream:
        stream.write('{"finished": "2026-')
    assert proofs.last(path, "7") == first
    proofs.file(path, second)
    assert proofs.last(path, "7") == second
    assert proofs.last(path, "7", 2) is None
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(path.read_text().splitlines()) == 3


def test_a_proof_in_one_sentence() -> None:
    passed = {
        "repository": 1,
        "finished": "2026-11-23T04:00:05+00:00", "passed": True, "found": [], "backup": {"label": "20261123-024834F"},
        "lsn": "0/A0", "rto_seconds": 1.6, "rpo_seconds": 251.2, "rows": {"mail.a": 3, "mail.b": 2},
    }  # fmt: skip
    assert proofs.sentence(passed) == (
        "20261123-024834F and its WAL were restored up to 0/A0 in 2 s, with 5 rows as in the live server,"
        " no page or index damaged; a loss just then would have cost 251 s"
    )
    assert (
        proofs.sentence({**passed, "passed": False, "found": ["a", "b"]})
        == "the drill of 2026-11-23T04:00:05+00:00 failed: a; b"
    )
