"""The restore drill: what a server's log says, what is missing in an archive, what differs, and the proof."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailhost_pg import drill, heartbeat, proofs

# What PostgreSQL 17 wrote in drills on a host.
REACHED = """\
2026-11-23 02:52:23.599 UTC [27] LOG:  database system was interrupted; last known up at 2026-11-23 02:48:34 UTC
2026-11-23 02:52:23.721 UTC [27] LOG:  starting point-in-time recovery to XID 772
2026-11-23 02:52:23.889 UTC [27] LOG:  recovery stopping after commit of transaction 772, time 2026-11-23 02:52:22.4+00
2026-11-23 02:52:23.889 UTC [27] LOG:  redo done at 0/6000148 system usage: CPU: user: 0.00 s, system: 0.01 s, elapsed: 0.16 s
2026-11-23 02:52:23.889 UTC [27] LOG:  last completed transaction was at log time 2026-11-23 02:52:22.5+00
2026-11-23 02:52:23.916 UTC [48] FATAL:  the database system is not accepting connections
2026-11-23 02:52:23.975 UTC [27] LOG:  selected new timeline ID: 2
2026-11-23 02:52:24.025 UTC [24] LOG:  database system is ready to accept connections
"""
ENDED = """\
2026-11-23 03:00:21.131 P00  ERROR: [042]: unable to get 000000010000000000000008:
2026-11-23 03:00:21.140 UTC [27] LOG:  redo done at 0/70004E8 system usage: CPU: user: 0.00 s, system: 0.01 s, elapsed: 0.16 s
2026-11-23 03:00:21.140 UTC [27] LOG:  last completed transaction was at log time 2026-11-23 02:59:48.5+00
2026-11-23 03:00:21.140 UTC [27] FATAL:  recovery ended before configured recovery target was reached
2026-11-23 03:00:21.150 UTC [24] LOG:  startup process (PID 27) exited with exit code 1
"""
LIVE = heartbeat.Contents(
    ("mailserver", "postgres"), "0004_heartbeat", {"mail.a": 3, "mail.b": 0}, {"mail.a": "17", "mail.b": "0"}
)
MOMENT = heartbeat.Moment(772, 1795402819.5, "0/A0000E8", "00000001000000000000000A", LIVE)


def test_a_log_of_a_server_that_got_there() -> None:
    log = drill.read_log(REACHED)
    assert (log.up, log.lsn, log.why) == (True, "0/6000148", "")
    assert log.commit and log.commit.isoformat() == "2026-11-23T02:52:22.500000+00:00"


def test_a_log_of_a_server_that_did_not() -> None:
    log = drill.read_log(ENDED)
    assert (log.up, log.lsn) == (False, "0/70004E8")
    assert drill.short(log, MOMENT, None) == (
        "recovery reached 0/70004E8 and not 0/A0000E8, where the live server was: 31 s of writes are lost"
        " ([042]: unable to get 000000010000000000000008: / recovery ended before configured recovery target was reached)"
    )
    assert "; segment 000000010000000000000008 is missing in the archive (" in drill.short(
        log, MOMENT, "000000010000000000000008"
    )


def test_an_empty_log_is_that_of_a_server_that_has_not_begun() -> None:
    assert drill.read_log("") == drill.Recovery(False, None, None, "")
    assert (
        drill.short(drill.read_log(""), MOMENT, None)
        == "recovery reached nothing and not 0/A0000E8, where the live server was"
    )


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["000000010000000000000001", "000000010000000000000002", "000000010000000000000003"], None),
        (["000000010000000000000001", "000000010000000000000003"], "000000020000000000000002"),
        (["000000010000000000000001", "000000020000000000000002", "000000020000000000000003"], None),
        ([], "000000020000000000000001"),
    ],
)
def test_a_gap_on_whatever_time_line(names: list[str], gap: str | None) -> None:
    assert drill.first_gap(names, "000000010000000000000001", "000000020000000000000003") == gap


def test_a_gap_beyond_255_segments() -> None:
    names = ["0000000100000000000000FF", "000000010000000100000001"]
    assert drill.first_gap(names, names[0], names[1]) == "000000010000000100000000"


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
    assert proofs.last(path) is None
    first, second = ({"finished": f"2026-11-23T0{hour}:00:00+00:00", "passed": True} for hour in (3, 4))
    proofs.file(path, first)
    assert proofs.last(path) == first
    # A power cut in the middle of a line: it is passed over, and the next proof is not lost to it.
    with path.open("a") as stream:
        stream.write('{"finished": "2026-')
    assert proofs.last(path) == first
    proofs.file(path, second)
    assert proofs.last(path) == second
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
