"""What of a repository brings a moment back, and moments as operators write them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailhost_pg import container, pgbackrest, plan, recovery, restore, scratch, times
from mailhost_pg.config import Failed, Refused

# What pgBackRest 2.55.1 printed after three restores, shortened: line 2 left line 1 in its segment 5, line 3 left line 1
# too, and line 4 left line 3.
INFO: list[dict[str, Any]] = json.loads("""[{"name": "mail",
  "archive": [{"database": {"id": 1, "repo-key": 1}, "id": "17-1",
    "max": "00000004000000000000000C", "min": "000000010000000000000001"}],
  "backup": [
    {"archive": {"start": "000000010000000000000002", "stop": "000000010000000000000003"},
     "database": {"id": 1, "repo-key": 1}, "error": false,
     "info": {"delta": 31417534, "repository": {"delta": 3762821}, "size": 31417534}, "label": "20261123-025001F",
     "lsn": {"start": "0/2000028", "stop": "0/3000050"}, "prior": null, "timestamp": {"start": 1000, "stop": 1003},
     "type": "full"},
    {"archive": {"start": "000000020000000000000007", "stop": "000000020000000000000007"},
     "annotation": {"live-since": "1998.5"},
     "database": {"id": 1, "repo-key": 1}, "error": false,
     "info": {"delta": 31417534, "repository": {"delta": 3762821}, "size": 31417534}, "label": "20261123-030110F",
     "lsn": {"start": "0/7000028", "stop": "0/7000158"}, "prior": null, "timestamp": {"start": 2010, "stop": 2011},
     "type": "full"},
    {"archive": {"start": "000000030000000000000008", "stop": "000000030000000000000008"},
     "database": {"id": 1, "repo-key": 1}, "error": false,
     "info": {"delta": 31417534, "repository": {"delta": 3762821}, "size": 31417534}, "label": "20261123-040110F",
     "lsn": {"start": "0/8000028", "stop": "0/8000158"}, "prior": null, "timestamp": {"start": 3010, "stop": 3011},
     "type": "full"}],
  "db": [{"id": 1, "repo-key": 1, "system-id": 7711192874576044046, "version": "17"}],
  "repo": [{"cipher": "none", "key": 1, "status": {"code": 0, "message": "ok"}}]}]""")
HISTORIES = {
    2: "1\t0/500CCC8\tbefore 2026-11-23 03:00:55.269343+00\n",
    3: "1\t0/500CCF0\tno recovery target specified\n",
}
ARCHIVED = {1: (1, 2, 3, 4, 5, 6), 2: (5, 6, 7), 3: (5, 6, 7, 8, 9)}
BORN = {2: 2000.0, 3: 3000.0}


def _archive(archived: Mapping[int, Iterable[int]]) -> plan.Segments:
    listing: dict[str, dict[str, Any]] = {"17-1": {"type": "path"}}
    for line, numbers in archived.items():
        for number in numbers:
            name = plan.segment_name(line, number)
            listing[f"17-1/{name[:16]}/{name}-{number:040x}.zst"] = {"type": "file", "size": 1, "time": 1000 * line}
    for line, born in BORN.items():
        listing[f"17-1/{line:08X}.history"] = {"type": "file", "size": 1, "time": born}
    listing["17-1/0000000100000000/000000010000000000000002.00000028.backup"] = {"type": "file", "time": 1003}
    return plan.parse_archive(listing)


def _choose(seconds: float | None, label: str | None = None, archived: Any = None, **target: Any) -> plan.Chosen:
    backups = list(pgbackrest.parse(INFO).backups)
    archive = _archive({**ARCHIVED, **(archived or {})})
    known = plan.lines(backups, archive, {line: plan.parse_history(text) for line, text in HISTORIES.items()})
    moment = None if seconds is None else times.of(seconds)
    return plan.choose(plan.Target(moment, **target), backups, known, archive, label)


@pytest.mark.parametrize(
    ("seconds", "label", "line"),
    [
        (1004, "20261123-025001F", 1),
        (1998.4, "20261123-025001F", 1),
        (1998.5, "20261123-025001F", 2),
        (2011, "20261123-025001F", 2),
        (2011.9, "20261123-025001F", 2),
        (2012, "20261123-030110F", 2),
        (2999.9, "20261123-030110F", 2),
        (3000, "20261123-025001F", 3),
        (3012, "20261123-040110F", 3),
        (None, "20261123-040110F", 3),
    ],
)
def test_backup_and_time_line_of_a_moment(seconds: float | None, label: str, line: int) -> None:
    """Line 2 is abandoned, and its backup is no way to line 3, although it is newer than the first one."""
    chosen = _choose(seconds)
    assert (chosen.backup.label, chosen.line.number) == (label, line)
    assert chosen.until == {1: 1998.5, 2: 3000, 3: None}[line]
    assert chosen.missing is None


def test_the_segments_on_the_way() -> None:
    """The one in which the line before was left is there twice, and what came on that line after it is left out."""
    numbers = [plan.segment_number(name) for name in _choose(3005).path]
    assert numbers == [(1, 2), (1, 3), (1, 4), (1, 5), (3, 5), (3, 6), (3, 7), (3, 8), (3, 9)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1003.5,), "1970-01-01 00:16:43.500000+00 is not after the end of the first backup that leads there"),
        ((2005, "20261123-040110F"), "20261123-040110F is on time line 3, and the database was on 2 at"),
        ((2005, "20261123-030110F"), "20261123-030110F ended at 1970-01-01 00:33:31+00: that is not before"),
        ((2005, "nonsense"), "there is no backup nonsense: there are 20261123-025001F, 20261123-030110F"),
        ((1500, None, {1: (2, 4)}), "000000010000000000000003 is missing in the archive, and backup 20261123-025001F"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(Refused, match=words.replace("+", r"\+")):
        _choose(*arguments)


def test_a_gap_is_seen() -> None:
    assert _choose(1500, archived={1: (2, 3, 5)}).missing == "000000010000000000000004"
    assert _choose(1500, archived={1: (2, 3, 4)}).missing is None


def test_the_end_of_a_backup() -> None:
    chosen = _choose(None, "20261123-030110F", end_of_backup=True)
    assert (chosen.backup.label, chosen.line.number) == ("20261123-030110F", 2)


def test_a_line_of_which_nothing_is_kept_ends_where_it_began() -> None:
    """Killed after the swap, and then the disk lost: what is left of the newest line is its history."""
    info = [{**INFO[0], "backup": INFO[0]["backup"][:1]}]
    archive = _archive({1: ARCHIVED[1]})
    backups = list(pgbackrest.parse(info).backups)
    known = plan.lines(backups, archive, {3: plan.parse_history(HISTORIES[3])})
    chosen = plan.choose(plan.Target(), backups, known, archive)
    assert (chosen.line.number, chosen.before) == (1, plan.parse_lsn("0/500CCF0"))


def test_a_line_that_was_gone_back_to_is_in_use_again() -> None:
    """The restored server of line 3 did not work: the backup that was then made on line 2 says so."""
    back = {**INFO[0]["backup"][1], "label": "20261123-050000F", "annotation": {"live-since": "4000"}}
    back.update(timestamp={"start": 4010, "stop": 4011}, lsn={"start": "0/9000028", "stop": "0/9000158"})
    back["archive"] = {"start": "000000020000000000000009", "stop": "000000020000000000000009"}
    backups = list(pgbackrest.parse([{**INFO[0], "backup": [*INFO[0]["backup"], back]}]).backups)
    archive = _archive({**ARCHIVED, 2: (5, 6, 7, 8, 9, 10)})
    known = plan.lines(backups, archive, {line: plan.parse_history(text) for line, text in HISTORIES.items()})
    found = [(1500, 1), (2500, 2), (3500, 3), (3999, 3), (4000, 2), (4500, 2), (None, 2)]
    for seconds, number in found:
        moment = None if seconds is None else times.of(seconds)
        assert plan.choose(plan.Target(moment), backups, known, archive).line.number == number


def test_a_backup_on_a_line_that_was_left_says_that_it_is_in_use_again() -> None:
    """The one that should have noted it failed, and the ones of the nights after it did not."""
    backs = []
    for number, start in enumerate((4010, 5010)):
        back = {**INFO[0]["backup"][1], "label": f"2026112{number}-050000F", "annotation": None}
        back["timestamp"] = {"start": start, "stop": start + 1}
        backs.append({**back, "archive": {"start": "000000020000000000000009", "stop": "000000020000000000000009"}})
    backups = list(pgbackrest.parse([{**INFO[0], "backup": [*INFO[0]["backup"], *backs]}]).backups)
    known = plan.lines(
        backups, _archive(ARCHIVED), {line: plan.parse_history(text) for line, text in HISTORIES.items()}
    )
    assert [(line.number, line.born) for line in known] == [(1, 0), (2, 1998.5), (3, 3000), (2, 4010)]
    assert known[-1].ancestors == known[1].ancestors


def test_a_moment_before_all_that_a_repository_knows_is_refused() -> None:
    """As in the host's own repository when the host was made anew from the other one."""
    backups = list(pgbackrest.parse([{**INFO[0], "backup": INFO[0]["backup"][1:2]}]).backups)
    archive = _archive({2: ARCHIVED[2]})
    archive = dataclasses.replace(archive, histories={2: BORN[2]})
    known = plan.lines(backups, archive, {2: plan.parse_history(HISTORIES[2])})
    words = (
        r"is not after the end of the first backup, 20261123-030110F: .*; another repository may have more \(--repos"
    )
    with pytest.raises(Refused, match=words):
        plan.choose(plan.Target(times.of(1500)), backups, known, archive)
    # Of a later line nothing is there but that it left one of which nothing is there either.
    known = plan.lines(backups, archive, {2: plan.parse_history(HISTORIES[2]), 7: ((6, 42),)})
    words = "nothing of time line 6 is kept, which time line 7 began on; another repository may have more"
    with pytest.raises(Refused, match=words):
        plan.choose(plan.Target(), backups, known, archive)


def test_a_backup_with_wrong_pages_is_the_last_resort() -> None:
    backups = [dataclasses.replace(one, damaged=one.label > "20261123-03") for one in pgbackrest.parse(INFO).backups]
    archive = _archive(ARCHIVED)
    known = plan.lines(backups, archive, {line: plan.parse_history(text) for line, text in HISTORIES.items()})
    assert plan.choose(plan.Target(), backups, known, archive).backup.label == "20261123-025001F"
    archive = _archive({3: (8, 9)})
    known = plan.lines(backups[2:], archive, {3: plan.parse_history(HISTORIES[3])})
    assert plan.choose(plan.Target(), backups[2:], known, archive).backup.damaged


def test_segments_of_the_host_s_own_go_on_where_the_archive_ends() -> None:
    archive = plan.with_local(_archive(ARCHIVED), ["00000003000000000000000A", "archive_status", "00000003.history"])
    assert archive.sums[3, 10] == ""
    assert archive.sums[3, 9] != ""
    assert plan.with_local(archive, ["000000030000000000000009"]).sums[3, 9] == archive.sums[3, 9]


# What PostgreSQL 17 wrote in recoveries on a host.
GOT_THERE = """\
2026-11-23 02:52:23.721 UTC [27] LOG:  starting point-in-time recovery to XID 772
2026-11-23 02:52:23.889 UTC [27] LOG:  recovery stopping after commit of transaction 772, time 2026-11-23 02:52:22.4+00
2026-11-23 02:52:23.889 UTC [27] LOG:  redo done at 0/9000148 system usage: CPU: user: 0.00 s, system: 0.01 s
2026-11-23 02:52:23.889 UTC [27] LOG:  last completed transaction was at log time 2026-11-23 02:52:22.5+00
2026-11-23 02:52:23.916 UTC [48] FATAL:  the database system is not accepting connections
2026-11-23 02:52:23.975 UTC [27] LOG:  selected new timeline ID: 4
2026-11-23 02:52:24.020 UTC [27] LOG:  archive recovery complete
2026-11-23 02:52:24.025 UTC [24] LOG:  database system is ready to accept connections
"""
SHORT = """\
2026-11-23 03:00:21.140 UTC [27] LOG:  redo done at 0/80004E8 system usage: CPU: user: 0.00 s, system: 0.01 s
2026-11-23 03:00:21.140 UTC [27] LOG:  last completed transaction was at log time 2026-11-23 02:59:48.5+00
2026-11-23 03:00:21.140 UTC [27] FATAL:  recovery ended before configured recovery target was reached
"""
DAMAGED = """\
mailhost-pg: 000000030000000000000008 is damaged in repository 1
2026-11-23 03:00:21.140 UTC [27] FATAL:  could not restore file "000000030000000000000008" from archive: exit code 200
"""


@pytest.mark.parametrize("left", ["pg_wal", "", "a file"])
def test_old_data_that_cannot_be_read_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str
) -> None:
    """What there is of it counts, and a restore puts the rest in its place."""
    cluster = INFO[0]["db"][0]["system-id"]
    (tmp_path / "data/global").mkdir(parents=True)
    (tmp_path / "data/global/pg_control").write_bytes(cluster.to_bytes(8, sys.byteorder))
    if left == "pg_wal":
        (tmp_path / "data/pg_wal").mkdir()
        (tmp_path / "data/pg_wal/00000003000000000000000A").touch()
    elif left:
        (tmp_path / "data/pg_wal").touch()
    monkeypatch.setattr(pgbackrest, "info", lambda *_: pgbackrest.parse(INFO))
    monkeypatch.setattr(recovery, "_pgbackrest", lambda *_: '{"17-1": {"type": "path"}}')
    host: Any = SimpleNamespace(stanza="mail", tail=None)
    found = recovery.look(host, 1, tmp_path / "data")
    assert found.wal == ((tmp_path / "data/pg_wal",) if left == "pg_wal" else ())
    assert ((3, 10) in found.archive.sums) is (left == "pg_wal")
    assert recovery.identifier(tmp_path / "data/global/pg_control") is None


class _Host:
    """A host whose unit and backups do what they are told, with a data directory and what a restore has kept."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.noted: list[tuple[int, str]] = []
        self.config: Any = SimpleNamespace(
            unit="server", container="c", database="mail", repositories=(1, 2), state=place / "state"
        )
        self.config.data, self.config.marker = place / "data", place / "cluster"
        self.config.data.mkdir()
        self.config.marker.write_text("7\n")
        self.journal = place / "state/restore.json"
        for name, fake in (("run", self._run), ("sql", self._sql), ("remove", None), ("running", None)):
            monkeypatch.setattr(container, name, fake or (lambda *_: False))
        monkeypatch.setattr(scratch, "remove", lambda *_: False)
        monkeypatch.setattr(pgbackrest, "run", self._backup)
        there = {number: pgbackrest.Repository(number, "7", None, None, None, (1,)) for number in (1, 2)}
        monkeypatch.setattr(pgbackrest, "info", lambda _: pgbackrest.Info(there, self._backups()))

    def _run(self, argv: list[str], **_: object) -> str:
        self.ran.append(" ".join(argv[:2]))
        if self.ran[-1] in self.broken:
            raise Failed("the unit failed")
        return "active" if argv[1] == "is-active" else ""

    def _sql(self, *_: object) -> str:
        if "sql" in self.broken:
            raise Failed("it refuses")
        return "1"

    def _backup(self, _: object, *words: str) -> str:
        number = int(words[0].removeprefix("--repo="))
        if f"repository {number}" in self.broken:
            raise Failed("away")
        self.noted.append((number, words[2].removeprefix("--annotation=live-since=")))
        return ""

    def _backups(self) -> tuple[pgbackrest.Backup, ...]:
        (made,) = pgbackrest.parse([{**INFO[0], "backup": INFO[0]["backup"][:1]}]).backups
        return tuple(dataclasses.replace(made, repository=n, notes={"live-since": at}) for n, at in self.noted)

    def swapped(self, **journal: Any) -> restore.Journal:
        """Write the journal of a restore that has swapped the directories."""
        kept = self.config.data.with_name("data.before-x")
        kept.mkdir()
        return self.note(restore.Journal(self.config.data.stat().st_ino, str(kept), cluster="7", **journal))

    def note(self, journal: restore.Journal) -> restore.Journal:
        """Write a journal."""
        self.journal.parent.mkdir()
        self.journal.write_text(json.dumps(dataclasses.asdict(journal)))
        return journal

    def read(self) -> dict[str, Any]:
        """Return the journal."""
        found: dict[str, Any] = json.loads(self.journal.read_text())
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Host:
    return _Host(tmp_path, monkeypatch)


def test_a_server_that_cannot_start_is_no_obstacle(host: _Host, capsys: pytest.CaptureFixture[str]) -> None:
    """It was stopped by a restore that was killed then."""
    host.note(restore.Journal())
    host.broken = {"systemctl start"}
    restore.tidy(host.config)
    assert host.ran == ["systemctl start"]
    assert capsys.readouterr().out == "server is not up again: the unit failed\n"
    assert not host.journal.exists()


def test_other_data_in_place_of_what_was_restored_is_left_alone(host: _Host) -> None:
    """Somebody has moved it there since then, and may have stopped the server for that."""
    journal = host.swapped(live_since=1234.5, served=True)
    host.config.data.rmdir()
    Path(journal.kept).rename(host.config.data)
    restore.tidy(host.config)
    assert (host.ran, host.noted, host.journal.exists()) == ([], [], False)


def test_why_a_restore_failed_is_what_is_said(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the server starts again, which may be why there is a restore at all."""

    def chosen(*_: object) -> Any:
        raise Failed("a segment is damaged")

    monkeypatch.setattr(restore, "chosen", chosen)
    host.broken = {"systemctl start"}
    asked: Any = SimpleNamespace(repository=1)
    nothing: Any = None
    with pytest.raises(Failed, match=r"^a segment is damaged$"):
        restore._restore(host.config, asked, plan.Target(), nothing, nothing)
    assert host.ran == ["systemctl is-active", "systemctl stop", "systemctl start"]
    assert not host.journal.exists()


def test_a_finished_restore_without_its_backups_is_left_alone(host: _Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Each repository gets one that notes the moment as it was, and the server is not touched."""
    host.swapped(live_since=1234.5, served=True)
    (host.config.data.parent / "data.restoring").mkdir()
    host.broken = {"systemctl start", "systemctl stop", "sql", "repository 1"}
    restore.tidy(host.config)
    assert host.noted == [(2, "1234.500")]
    assert "has no new base backup yet: repository 1: away; when that is mended: " in capsys.readouterr().out
    assert host.journal.exists()
    # What a later restore had only begun is not what was kept.
    assert {path.name for path in host.config.data.parent.iterdir()} >= {"data", "data.before-x"}
    assert not (host.config.data.parent / "data.restoring").exists()
    host.broken -= {"repository 1"}
    restore.tidy(host.config)
    assert host.noted == [(2, "1234.500"), (1, "1234.500")]
    assert not host.journal.exists()
    assert host.ran == []


def test_a_restore_that_was_cut_off_is_brought_to_its_end_once(host: _Host) -> None:
    """From when the server was started first; a backup that fails then is made later."""
    host.swapped(live_since=1234.5)
    host.broken = {"repository 1", "repository 2"}
    restore.tidy(host.config)
    assert host.ran == ["systemctl stop", "systemctl start"]
    assert (host.read()["live_since"], host.read()["served"]) == (1234.5, True)
    restore.tidy(host.config)
    assert host.ran == ["systemctl stop", "systemctl start"]


def test_what_was_gone_back_to_gets_its_backup_later(host: _Host) -> None:
    host.swapped()
    host.broken = {"sql", "repository 1", "repository 2"}
    with pytest.raises(
        Failed, match=r"does not work: it refuses; what ran before runs again, .* no new base backup yet"
    ):
        restore.tidy(host.config)
    since = host.read()["live_since"]
    host.broken = {"repository 2"}
    host.ran.clear()
    for _ in range(2):
        restore.tidy(host.config)
    assert (host.noted, host.ran) == ([(1, f"{since:.3f}")], [])


@pytest.mark.parametrize("kept", [True, False])
def test_nothing_that_works_is_left(host: _Host, kept: bool) -> None:
    """Neither what was restored nor what was there before starts: the next restore is not kept from its work."""
    journal = host.swapped()
    if not kept:
        Path(journal.kept).rmdir()
    host.broken = {"systemctl start"}
    words = r"and what was there before does not start: the unit failed" if kept else r"does not work: the unit failed$"
    with pytest.raises(Failed, match=words):
        restore.tidy(host.config)
    restore.tidy(host.config)
    assert not host.journal.exists()


def test_where_a_recovery_ended() -> None:
    chosen, at = _choose(None), datetime.datetime.fromisoformat
    found = recovery.judge(chosen, GOT_THERE, GOT_THERE)
    assert found == recovery.Reached("0/9000148", at("2026-11-23 02:52:22.5+00"), False, 4)
    # To the end of the archive: first with a target that is never reached, then without one.
    ended = SHORT.replace("0/8000", "0/9000")
    assert recovery.judge(chosen, ended, GOT_THERE).short
    assert recovery.judge(chosen, ended, GOT_THERE).commit == at("2026-11-23 02:59:48.5+00")
    assert recovery.judge(chosen, GOT_THERE.splitlines()[-2], GOT_THERE).lsn == chosen.backup.stop_lsn


@pytest.mark.parametrize(
    ("archived", "log", "lsn", "words"),
    [
        ((8, 9), SHORT, "0/80004E8", "recovery ended in segment 000000030000000000000008, and there are later ones"),
        ((8, 10), SHORT, "0/80004E8", "segment 000000030000000000000009 is missing in the archive: what came after it"),
        ((8, 9), DAMAGED, None, "does not come up: 000000030000000000000008 is damaged in repository 1"),
        ((8, 9), "", None, "does not come up: it said nothing"),
    ],
)
def test_a_recovery_that_did_not_get_there(archived: Any, log: str, lsn: str | None, words: str) -> None:
    with pytest.raises(recovery.Ended, match=words) as caught:
        recovery.judge(_choose(None, archived={3: archived}), log, log)
    assert caught.value.reached.lsn == lsn
    assert (caught.value.reached.commit is None) is (lsn is None)


def test_a_cluster_that_the_host_went_back_to_has_several_numbers() -> None:
    """After a step to another major version and back pgBackRest calls the old cluster by another number."""
    systems = [(1, "7001", "15"), (2, "7002", "17"), (3, "7001", "15")]
    info = [{**INFO[0], "db": [{"id": n, "repo-key": 1, "system-id": one, "version": v} for n, one, v in systems]}]
    found = pgbackrest.parse(info)
    assert (found.repositories[1].cluster, found.repositories[1].ids) == ("7001", (1, 3))
    assert len(found.of("7001", 1)) == 3


def test_segment_names() -> None:
    assert plan.segment_name(0x1A, 0x1FF) == "0000001A00000001000000FF"
    assert plan.segment_number("0000001A00000001000000FF") == (0x1A, 0x1FF)
    assert plan.segment_of(plan.parse_lsn("1/FF000028")) == 0x1FF


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-22 14:03:05+00", "2026-11-22 14:03:05+00"),
        ("2026-11-22T14:03:05Z", "2026-11-22 14:03:05+00"),
        ("2026-11-22 14:03:05 UTC", "2026-11-22 14:03:05+00"),
        ("2026-11-22 14:03 -05:30", "2026-11-22 19:33:00+00"),
        ("2026-11-22 14:03:05.25+0100", "2026-11-22 13:03:05.250000+00"),
    ],
)
def test_moments(text: str, shown: str) -> None:
    assert times.shown(times.parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-11-22 14:03:05", "does not say its time zone"),
        ("2026-11-22", "does not say its time zone"),
        ("yesterday", "is not a time such as"),
        ("2026-11-31 00:00:00Z", "is not a time such as"),
        ("2026-11-22 14:03:05 CET", "is not a time such as"),
    ],
)
def test_moments_that_are_none(text: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        times.parse(text)


def test_what_is_said_beforehand() -> None:
    said = plan.summary(_choose(2005), times.of(2005) + datetime.timedelta(hours=26, minutes=3))
    assert said == (
        "the state of 1970-01-01 00:33:25+00, 1 d 2 h ago, from full backup 20261123-025001F of 1970-01-01 00:16:43+00 "
        "(31 MB) and the WAL of time line 2 (left at 1970-01-01 00:50:00+00)"
    )
