"""Alarms: what is a warning and what is critical, the hook that is told once, and the metrics."""

import argparse
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailhost_pg import alarms, check, config, hook, metrics

NOW = 1_800_000_000.0
HOUR, MB = 3600, 1 << 20
LIMITS = {"backup_age_hours": 30, "wal_age_minutes": 15, "pg_wal_mb": 1024, "disk_free_percent": 20, "textfile": None}
DRILL = {"max_age_hours": 30, "offsite_days": 7}
PROOF = {"finished": "x", "passed": True, "found": [], "time": NOW - HOUR, "rpo_seconds": 4.0, "rto_seconds": 2.0}


def backup(age_hours: float = 1, **change: Any) -> dict[str, Any]:
    """Return a base backup as a check sees it."""
    found = {"label": "20270115-080000F", "kind": "full", "stop": NOW - age_hours * HOUR, "size": 31e6}
    return {**found, "repository_size": 4e6, "damaged": False, **change}


def facts(**change: Any) -> dict[str, Any]:
    """Return what a check sees of a host in order, but for what is changed."""
    archiver = {
        "archived_count": 9,
        "failed_count": 0,
        "last_archived": NOW - 60,
        "last_failed_wal": None,
        "last_failed": None,
    }
    server = {"archive_mode": "on", "max_wal_bytes": 1024 * MB, "beat": NOW - 1, "archiver": archiver, "slots": []}
    other = change.pop("server", {})
    return {
        "now": NOW,
        "server": None if other is None else {**server, **other},
        "why": "",
        "repositories": [{"number": 1, "why": None, "backups": [backup(25), backup()], "behind": None}],
        "wal_age": 60.0,
        "archive_bytes": 2600960,
        "waiting": [],
        "pg_wal_bytes": 80 * MB,
        "tail": None,
        "disks": [{"path": "/opt/postgres/data", "free": 83.0, "free_inodes": 100.0}],
        "drills": [PROOF],
        "verified": None,
        "step": None,
        "certificate": {"ends": NOW + 31 * 24 * HOUR, "why": ""},
        "newest_time": NOW - 1,
        **change,
    }  # fmt: skip


def archiver(**change: Any) -> dict[str, Any]:
    """Return the server's part with another archiver."""
    found = {
        "archived_count": 9,
        "failed_count": 3,
        "last_archived": NOW - 60,
        "last_failed_wal": "00000001000000000000000A",
    }
    return {"archiver": {**found, "last_failed": NOW - 2, **change}}


def slot(**change: Any) -> dict[str, Any]:
    """Return the server's part with one slot."""
    return {"slots": [{"name": "tail", "active": True, "status": "reserved", "behind": 0, "idle": None, **change}]}


def repository(number: int = 1, **change: Any) -> dict[str, Any]:
    """Return a repository in order, but for what is changed."""
    return {"number": number, "why": None, "backups": [backup()], "behind": None, **change}


def test_a_host_in_order_has_no_alarm() -> None:
    found = alarms.judge(facts(), LIMITS, DRILL)
    assert {one.level for one in found} == {alarms.OK}, found
    names = [
        "server",
        "backup 1",
        "backup 1 size",
        "WAL age",
        "waiting",
        "pg_wal",
        "archiver",
        "disk /opt/postgres/data",
    ]
    assert [one.name for one in found] == [*names, "drill", "verify", "clock", "certificate"]


@pytest.mark.parametrize(
    ("change", "name", "level", "words"),
    [
        ({"server": None, "why": "it is off"}, "server", 2, "the server does not answer: it is off"),
        ({"server": {"archive_mode": "off"}}, "server", 2, "archive_mode is off: nothing is archived"),
        ({"repositories": [repository(backups=[backup(31)])]}, "backup 1", 1, "20270115-080000F is 31.0 h old"),
        ({"repositories": [repository(backups=[backup(61)])]}, "backup 1", 2, "20270115-080000F is 61.0 h old"),
        ({"repositories": [repository(backups=[])]}, "backup 1", 2, "repository 1 has no base backup"),
        ({"repositories": [repository(), repository(2, why="timeout")]}, "backup 2", 2, "repository 2 cannot be read: timeout"),
        ({"repositories": [repository(backups=[backup(2, size=90e6), backup()])]}, "backup 1 size", 1, "31 MB, and 90 MB the time before"),
        ({"repositories": [repository(backups=[backup(damaged=True)])]}, "backup 1 pages", 2, "has pages whose checksums are wrong"),
        ({"repositories": [repository(), repository(2, behind=9)]}, "WAL 2", 1, "its newest segment is 9 behind that of repository 1"),
        ({"repositories": [repository(), repository(2, behind=17)]}, "WAL 2", 2, "is 17 behind"),
        ({"wal_age": 16 * 60.0}, "WAL age", 1, "nothing has reached the archive for 16.0 min"),
        ({"wal_age": 31 * 60.0}, "WAL age", 2, "31.0 min"),
        ({"wal_age": None}, "WAL age", 2, "nothing has been archived"),
        ({"server": archiver()}, "archiver", 1, "00000001000000000000000A cannot be archived"),
        ({"server": archiver(), "wal_age": 16 * 60.0}, "archiver", 2, "cannot be archived"),
        ({"server": archiver(last_archived=None), "wal_age": None}, "archiver", 2, "cannot be archived"),
        ({"waiting": [16 * 60.0, 1.0]}, "waiting", 1, "2 segments wait for it (32 MB), 1 too long"),
        ({"waiting": [1.0] * 129}, "waiting", 2, "129 segments wait for it (2064 MB), 0 too long"),
        ({"pg_wal_bytes": 2049 * MB}, "pg_wal", 1, "2049 MB, and max_wal_size is 1024 MB"),
        ({"pg_wal_bytes": 3073 * MB}, "pg_wal", 2, "3073 MB"),
        ({"pg_wal_bytes": None}, "pg_wal", 2, "there is no pg_wal"),
        ({"server": slot(active=False, idle=60.0)}, "slot tail", 1, "has no reader, 0 MB behind, reserved"),
        ({"server": slot(active=False, idle=16 * 60.0)}, "slot tail", 2, "has no reader"),
        ({"server": slot(behind=2049 * MB)}, "slot tail", 2, "is read, 2049 MB behind"),
        ({"tail": "tail"}, "slot tail", 2, "is not there: WAL is not taken as it is written"),
        ({"server": slot(behind=1025 * MB)}, "slot tail", 1, "is read, 1025 MB behind"),
        ({"server": slot(status="extended")}, "slot tail", 1, "extended"),
        ({"server": slot(status="lost", active=False, behind=None)}, "slot tail", 2, "lost"),
        ({"disks": [{"path": "/d", "free": 19.0, "free_inodes": 100.0}]}, "disk /d", 1, "19 % of its room is free"),
        ({"disks": [{"path": "/d", "free": 9.0, "free_inodes": 100.0}]}, "disk /d", 2, "9 %"),
        ({"disks": [{"path": "/d", "free": 80.0, "free_inodes": 5.0}]}, "disk /d", 2, "5 % of its inodes is free"),
        ({"drills": [None]}, "drill", 2, "no restore drill has ended yet"),
        ({"drills": [{"passed": True, "found": [], "time": NOW - 31 * HOUR}]}, "drill", 2, "passed 31.0 h ago"),
        ({"drills": [PROOF, {**PROOF, "time": NOW - 173 * HOUR}]}, "drill 2", 0, "passed from repository 2 173.0 h ago"),
        ({"drills": [PROOF, {**PROOF, "time": NOW - 175 * HOUR}]}, "drill 2", 2, "passed from repository 2 175.0 h ago"),
        ({"drills": [PROOF, None]}, "drill 2", 2, "no restore drill from repository 2 has ended yet"),
        ({"verified": {"found": ["repository 1 has damaged files"], "time": NOW}}, "verify", 2, "repository 1 has damaged files"),
        ({"verified": {"found": [], "time": NOW - 193 * HOUR}}, "verify", 1, "every file was in order 193.0 h ago"),
        ({"repositories": [repository(backups=[backup(193), backup()])]}, "verify", 1, "every file is to be read for the first time"),
        ({"drills": [{"passed": False, "found": ["a", "b"], "time": NOW - HOUR}]}, "drill", 2, "failed 1.0 h ago: a; b"),
        ({"newest_time": NOW + 60}, "clock", 2, "it is 60 s before what was written last: it was set back"),
        ({"step": {"at": NOW - HOUR, "seconds": 3600.0}}, "clock", 1, "was set by +3600 s 1.0 h ago"),
        ({"certificate": {"ends": NOW + 29 * 24 * HOUR, "why": ""}}, "certificate", 1, "ends in 29 days"),
        ({"certificate": {"ends": NOW + 6 * 24 * HOUR, "why": ""}}, "certificate", 2, "ends in 6 days"),
        ({"certificate": {"ends": NOW - 48 * HOUR, "why": ""}}, "certificate", 2, "ended 2 days ago: clients refuse it"),
        ({"certificate": {"ends": None, "why": "No such file"}}, "certificate", 2, "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_each_alarm(change: dict[str, Any], name: str, level: int, words: str) -> None:
    found = {one.name: one for one in alarms.judge(facts(**change), LIMITS, DRILL)}
    assert found[name].level == level
    assert words in found[name].words


def test_the_end_of_a_certificate_is_read(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    made = tmp_path / "tls/server.crt"
    argv = ["openssl", "req", "-x509", "-noenc", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    argv += ["-subj", "/CN=x", "-days", "9", "-keyout", str(tmp_path / "key"), "-out", str(made)]
    subprocess.run(argv, check=True, capture_output=True)
    found = check._certificate(made)
    assert abs(found["ends"] - time.time() - 9 * 24 * HOUR) < HOUR
    made.write_text("?", encoding="utf-8")
    assert "certificate" in check._certificate(made)["why"]


def test_one_failure_that_was_made_good_is_no_alarm() -> None:
    found = {one.name: one for one in alarms.judge(facts(server=archiver(last_failed=NOW - 120)), LIMITS, DRILL)}
    assert found["archiver"] == alarms.Finding("archiver", alarms.OK, "9 archived, 3 failed")


def test_what_is_critical_keeps_the_time_it_began() -> None:
    bad = [alarms.Finding("drill", alarms.CRITICAL, "old"), alarms.Finding("disk", alarms.WARNING, "full")]
    first = alarms.critical(bad, {}, NOW)
    assert first == {"names": ["drill"], "since": NOW}
    assert alarms.critical(bad, first, NOW + 300) == first
    assert alarms.critical([], first, NOW + 600) == {"names": [], "since": NOW + 600}


@pytest.mark.parametrize(
    ("last", "reason", "due"),
    [
        (None, "", True),
        (None, "drill since 1", True),
        ({"reason": "drill since 1", "at": NOW - 300}, "drill since 1", False),
        ({"reason": "drill since 1", "at": NOW - 300}, "drill since 2", True),
        ({"reason": "drill since 1", "at": NOW - 4 * HOUR - 1}, "drill since 1", True),
        ({"reason": "drill since 1", "at": NOW + 9 * HOUR}, "drill since 1", True),
        ({"reason": "", "at": NOW - 300}, "", True),
    ],
)
def test_the_hook_is_told_once_for_each_reason(last: dict[str, Any] | None, reason: str, due: bool) -> None:
    assert hook.due(last, reason, NOW) is due


def test_metrics_are_what_prometheus_reads() -> None:
    seen = facts(server=slot(name='a"b'))
    text = metrics.text(seen, alarms.judge(seen, LIMITS, DRILL))
    lines = text.splitlines()
    assert 'mailhost_pg_backup_age_seconds{repository="1"} 3600.0' in lines
    assert 'mailhost_pg_backups_stored_bytes{repository="1"} 8000000.0' in lines
    assert "mailhost_pg_wal_stored_bytes 2600960" in lines
    assert 'mailhost_pg_slot_behind_bytes{slot="a\\"b"} 0' in lines
    assert 'mailhost_pg_alarm{of="drill"} 0' in lines
    assert "# TYPE mailhost_pg_archived_total counter" in lines
    # Each metric is in one piece, with its help and type before it, and once.
    names = [line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")]
    assert [name for n, name in enumerate(names) if name in names[:n] and names[n - 1] != name] == []
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(set(names))
    assert text.endswith("\n")


def test_what_is_not_known_has_no_metric() -> None:
    seen = facts(server=None, why="off", wal_age=None, drills=[None])
    text = metrics.text(seen, alarms.judge(seen, LIMITS, DRILL))
    assert "None" not in text
    assert "mailhost_pg_archived_total" not in text
    assert "mailhost_pg_drill_age_seconds" not in text
    assert 'mailhost_pg_alarm{of="server"} 2' in text


def checked(monkeypatch: pytest.MonkeyPatch, look: Any, *words: str) -> int:
    """Return how a check ends on a host of which these facts are seen."""
    monkeypatch.setattr(check, "look", look)
    parser = argparse.ArgumentParser()
    check.options(parser)
    settings: Any = SimpleNamespace(alarms=LIMITS, drill=DRILL)
    return check.main(settings, parser.parse_args(words))


def test_a_check_that_fails_itself_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (KeyError("archiver"), config.Failed("docker: not found"), PermissionError(13, "Permission denied")):

        def look(*_: object, error: Exception = error, **__: object) -> dict[str, Any]:
            raise error

        assert checked(monkeypatch, look) == alarms.CRITICAL
        assert capsys.readouterr().out.startswith(f"CRITICAL: the check itself failed: {type(error).__name__}: ")


def test_metrics_that_cannot_be_written_are_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert checked(monkeypatch, lambda *_, **__: facts(), "--textfile", str(tmp_path / "a.prom")) == alarms.OK
    assert (tmp_path / "a.prom").read_text().startswith("# HELP mailhost_pg_")
    capsys.readouterr()
    assert checked(monkeypatch, lambda *_, **__: facts(), "--textfile", str(tmp_path / "b/a.prom")) == alarms.CRITICAL
    assert "a.prom: No such file or directory" in capsys.readouterr().out.splitlines()[0]
