"""Backups: what pgBackRest is told, what it answers, whose repository is whose, and what is refused."""

import contextlib
import datetime
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_backup
import mailhost_pillar
from compiled import GOOD
from mailhost_pg import __main__ as tool
from mailhost_pg import backup, config, container, pgbackrest, restore, scratch, verify

SFTP = {
    "type": "sftp",
    "host": "10.100.0.2",
    "port": 2288,
    "user": "store",
    "cipher_pass": "y" * 32,
    "private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGN0p1r9mEmcFm0Vp5lZK2fPEk7E4iFxNqsp5LgmCd3a store"],
}
PASS = "x" * 32
NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


def pillar(**section: Any) -> dict[str, Any]:
    return mailhost_pillar.plain(mailhost_pillar.parse({**GOOD, "backup": section}))


def sentences(section: dict[str, Any], **others: Any) -> list[str]:
    with pytest.raises(mailhost_pillar.PillarErrors) as caught:
        mailhost_pillar.parse({**GOOD, "backup": section, **others})
    return caught.value.sentences


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"at": "2:00"}, "backup.at: '2:00' is not a time of day such as 02:00, in quotes"),
        ({"at": 120}, "backup.at: 120 is not a time of day such as 02:00, in quotes"),
        ({"full_weekday": "Sunday"}, "backup.full_weekday: 'Sunday' is not one of Mon, Tue"),
        ({"archive_timeout": 301}, "backup.archive_timeout: 301 is not a number of seconds from 10 to 300"),
        ({"offsite": {**SFTP, "cipher_pass": None}}, "backup.offsite.cipher_pass: is missing: what leaves the host is encrypted"),
        ({"cipher_pass": PASS, "offsite": {"type": "sftp", **{k: v for k, v in SFTP.items() if k != "host_keys"}}}, "backup.offsite.host_keys: is missing (sftp)"),
        ({"offsite": {"bucket": "b"}}, "backup.offsite.bucket: is for s3, which is not backup.offsite.type"),
        ({"cipher_pass": PASS, "offsite": {**SFTP, "ca": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}}, "backup.offsite.ca: is for s3"),
        ({"offsite": {"host": "a b"}}, "backup.offsite.host: 'a b' is not a word without blanks"),
        ({"tail": {"directory": "/var/mail"}}, "backup.tail.directory: '/var/mail' is not the path of a directory below /opt, /srv, /mnt or /media"),
        ({"tail": {"directory": "/mnt/../etc"}}, "backup.tail.directory: '/mnt/../etc' is not the path of a directory"),
        ({"tail": {"directory": "/opt/postgres/data/x"}}, "backup.tail.directory: /opt/postgres/data/x is where the database's own directories are"),
        ({"tail": {"directory": "/opt/postgres"}}, "backup.tail.directory: /opt/postgres is where the database's own directories are"),
        ({"offsite": {"endpoint": "https://s3.example.org"}}, "backup.offsite.endpoint: 'https://s3.example.org' is not a name or address, with :port"),
        ({"hook": "mail me"}, "backup.hook: 'mail me' is not the path of a program on the host"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(section: dict[str, Any], words: str) -> None:
    (said,) = sentences(section)
    assert said.startswith(words)


def test_secrets_are_refused_without_being_said() -> None:
    (said,) = sentences({"cipher_pass": "hunter2; x"})
    assert said.startswith("backup.cipher_pass: is not a passphrase of 32 to 256") and "hunter2" not in said
    assert "c2Vj" not in sentences({"offsite": {"private_key": "c2VjcmV0"}})[0]


def test_an_image_that_apt_cannot_fill_is_refused() -> None:
    (said,) = sentences({}, postgres={"image": "postgres:17-alpine"})
    assert said.startswith("postgres.image: postgres:17-alpine is of Alpine, which apt cannot bring pgBackRest into")


def test_what_stands_beside_pgbackrest_s_settings() -> None:
    wanted = pillar(cipher_pass=PASS, offsite=SFTP)["backup"]
    found = mailhost_backup.secrets(wanted)
    assert (
        found["known_hosts"].startswith("[10.100.0.2]:2288 ssh-ed25519 AAAA") and found["known_hosts"].count("\n") == 1
    )
    assert found["offsite_key"].startswith("-----BEGIN OPENSSH")
    assert mailhost_backup.strays(wanted) == ["/opt/mail_server/postgres/pgbackrest/offsite_ca.crt"]
    assert mailhost_backup.secrets(pillar()["backup"]) == {} and len(mailhost_backup.strays(pillar()["backup"])) == 5


def test_the_tool_s_settings_have_no_secret() -> None:
    said = str(mailhost_backup.settings(pillar(cipher_pass=PASS, offsite=SFTP), 999))
    assert PASS not in said and "PRIVATE" not in said and "'offsite': 'sftp'" in said


@pytest.mark.parametrize(
    ("text", "encrypted", "words"),
    [
        (None, True, ""),
        ("[db]\ndb-system-id=42\n", False, ""),
        ("Salted__\udc80", True, ""),
        ("[db]\ndb-system-id=42\n", True, "it is given, and the backups in /opt/postgres/backups are not encrypted"),
        ("Salted__\udc80", False, "it is null, and the backups in /opt/postgres/backups are encrypted"),
    ],
)
def test_backups_stay_encrypted_or_not(text: str | None, encrypted: bool, words: str) -> None:
    archive = mailhost_backup.parse_archive_info(text)
    assert archive["id"] == ("42" if text and "42" in text else None)
    if not words:
        mailhost_backup.refuse_cipher(archive, encrypted)
        return
    with pytest.raises(CommandExecutionError, match=words):
        mailhost_backup.refuse_cipher(archive, encrypted)


def repositories(*ids: str | None) -> dict[int, dict[str, Any]]:
    return {number: {"id": identifier, "why": None} for number, identifier in enumerate(ids, 1)}


@pytest.mark.parametrize(
    ("there", "cluster", "changes", "foreign"),
    [
        (repositories(None), "7", {"repository 1": (None, "for cluster 7")}, {}),
        (repositories(None, None), None, {"repository 1": (None, "for cluster"), "repository 2": (None, "for cluster")}, {}),
        (repositories("7", "7"), "7", {}, {}),
        # A new major version: both were the old cluster's.
        (repositories("6", "6"), "7", {"repository 1": ("for cluster 6", "for cluster 7"), "repository 2": ("for cluster 6", "for cluster 7")}, {}),
        # A new host: what is off it is of the one that is gone.
        (repositories("7", "6"), "7", {}, {2: "6"}),
        (repositories(None, "6"), "7", {"repository 1": (None, "for cluster 7")}, {2: "6"}),
        ({**repositories("7"), 2: {"id": None, "why": "down"}}, "7", {}, {}),
    ],
)  # fmt: skip
def test_whose_repository_it_is(there: Any, cluster: Any, changes: dict[str, Any], foreign: dict[int, str]) -> None:
    planned = mailhost_backup.plan_stanza(there, cluster)
    assert {name: (change["old"], change["new"]) for name, change in planned.items()} == changes
    assert mailhost_backup.foreign(there, cluster) == foreign
    if foreign:
        with pytest.raises(
            CommandExecutionError, match="`mailhost-pg restore --latest --repository 2` brings that cluster"
        ):
            mailhost_backup.refuse_foreign(there, cluster)
    else:
        mailhost_backup.refuse_foreign(there, cluster)


def row(label: str, number: int, cluster: int, kind: str, stop: int, error: bool = False) -> dict[str, Any]:
    return {
        "label": label,
        "type": kind,
        "database": {"id": cluster, "repo-key": number},
        "timestamp": {"start": stop - 60, "stop": stop},
        "lsn": {"start": "0/2000028", "stop": "0/2000120"},
        "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000002"},
        "info": {"size": 100, "repository": {"delta": 10}},
        "prior": None,
        "error": error,
    }


SAID: list[Any] = [
    {
        "db": [
            {"id": 1, "repo-key": 1, "system-id": 6, "version": "17"},
            {"id": 2, "repo-key": 1, "system-id": 7, "version": "17"},
        ],
        "repo": [
            {"key": 1, "status": {"code": 0, "message": "ok"}},
            {"key": 2, "status": {"code": 99, "message": "[HostConnectError] unable to connect"}},
        ],
        "archive": [{"database": {"id": 2, "repo-key": 1}, "min": "0" * 23 + "1", "max": "0" * 23 + "9"}],
        "backup": [row("new", 1, 2, "full", 200), row("old", 1, 1, "full", 100), row("bad", 1, 2, "diff", 300, True)],
    }
]


def test_what_pgbackrest_says() -> None:
    found = mailhost_backup.parse_info(SAID)
    assert found["repositories"] == {
        1: {"id": "7", "why": None},
        2: {"id": None, "why": "[HostConnectError] unable to connect"},
    }
    assert [backup["label"] for backup in found["backups"]] == ["new"]
    assert mailhost_backup.parse_info([]) == {"repositories": {}, "backups": []}

    info = pgbackrest.parse(SAID)
    assert info.repositories[1] == pgbackrest.Repository(1, "7", None, "0" * 23 + "1", "0" * 23 + "9", (2,))
    assert info.repositories[2].why == "[HostConnectError] unable to connect"
    assert [one.label for one in info.backups] == ["old", "new", "bad"]
    assert [one.label for one in info.of("7", 1)] == ["new", "bad"]
    assert info.of("7")[-1].damaged


def made(kind: str, when: datetime.datetime, damaged: bool = False) -> pgbackrest.Backup:
    return pgbackrest.Backup("x", kind, 1, when, when, "", "", "", "", 1, 1, "7", None, damaged)


@pytest.mark.parametrize(
    ("weekday", "there", "wanted"),
    [
        (0, [], "full"),
        (0, [made("full", NOW)], "diff"),
        (0, [made("full", NOW, damaged=True)], "full"),
        (0, [made("full", NOW - datetime.timedelta(days=8)), made("diff", NOW)], "full"),
        (6, [made("full", NOW - datetime.timedelta(days=1))], "full"),
        # The one of its day is made already, and asked for again by hand.
        (6, [made("full", NOW)], "diff"),
    ],
)
def test_which_backup_is_due(weekday: int, there: list[pgbackrest.Backup], wanted: str) -> None:
    assert backup.kind(weekday, "Sun", there, NOW.replace(hour=0)) == wanted


@pytest.mark.parametrize(
    ("segments", "found"),
    [
        ([], []),
        (["000000010000000000000001", "000000010000000000000002"], []),
        (["0000000100000000000000FF", "000000010000000100000000"], []),
        (
            ["000000010000000000000001", "000000010000000000000004"],
            ["after segment 000000010000000000000001 2 are missing"],
        ),
        (
            ["0000000100000000000000FE", "000000010000000100000000"],
            ["after segment 0000000100000000000000FE 1 are missing"],
        ),
        # The second time line begins where the restore ended.
        (["000000010000000000000009", "000000020000000000000004", "000000020000000000000005"], []),
    ],
)
def test_wal_that_is_missing(segments: list[str], found: list[str]) -> None:
    names = [f"17-1/{segment[:16]}/{segment}-{'0' * 40}.zst" for segment in segments]
    assert verify.gaps([*names, "17-1", "17-1/0000000100000000/000000010000000000000002.00000028.backup"]) == found


def test_the_last_drill() -> None:
    line = '{"repository": 1, "cluster": "7", "finished": "2026-11-23T04:00:10+00:00", "passed": %s, "found": %s}'
    passed, failed = line % ("true", "[]"), line % ("false", '["rows differ"]')

    def judge(text: str, hours: int, now: datetime.datetime) -> str | None:
        return mailhost_backup.judge_drill(mailhost_backup.parse_drills(text, "7").get(1), hours, now)

    assert judge(f"{failed}\n{passed}\n", 30, NOW) is None
    # The end of a line that was being written when the power went.
    assert judge(f"{passed}\n{failed[:20]}", 30, NOW) is None
    assert judge(f"{passed}\n{failed}\n", 30, NOW) == "the last drill failed: rows differ"
    assert judge(passed, 7, NOW) == "the last drill is 8 hours old"
    assert judge("", 30, NOW) == "no drill yet"
    # One a day from the host's own repository, one a week from the other: each counts for itself.
    other = failed.replace('"repository": 1', '"repository": 2')
    drills = mailhost_backup.parse_drills(f"{other}\n{passed}\n", "7")
    section = {"max_age_hours": 30, "offsite_days": 7}
    assert mailhost_backup.judge_drills(drills, section, None, NOW) == {}
    assert mailhost_backup.judge_drills(drills, section, "s3", NOW) == {2: "the last drill failed: rows differ"}
    later = NOW + datetime.timedelta(hours=160)
    drills = mailhost_backup.parse_drills(f"{passed}\n{other.replace('false', 'true')}", "7")
    assert mailhost_backup.judge_drills(drills, section, "s3", later) == {1: "the last drill is 168 hours old"}
    # After a major step there is another cluster, of which nothing is proven.
    assert mailhost_backup.parse_drills(passed, "8") == {}


GOOD_SERVER = {"mode": "on", "failed": None, "waiting": 0}
TIMER = {"active": "active", "enabled": "enabled"}


@pytest.mark.parametrize(
    ("server", "timer", "info", "words"),
    [
        ({}, {}, {}, ""),
        ({"mode": "off"}, {}, {}, "archive_mode is off"),
        ({"failed": "0001"}, {}, {}, "archiving fails at 0001"),
        ({"waiting": 3}, {}, {}, "3 segments have waited for the archive for more than a minute"),
        ({}, {"active": "inactive"}, {}, "t is inactive, enabled"),
        ({}, {}, {"backups": []}, "repository 1 has no base backup"),
        ({}, {}, {"backups": [row("x", 1, 1, "full", int(NOW.timestamp()) - 40 * 3600)]}, "repository 1: the newest base backup is 40 hours old"),
        ({}, {}, {"repositories": {1: {"id": None, "why": "down"}}}, "repository 1: down"),
    ],
)  # fmt: skip
def test_what_is_not_as_declared(server: Any, timer: Any, info: Any, words: str) -> None:
    there = {"repositories": repositories("7"), "backups": [row("x", 1, 1, "full", int(NOW.timestamp()))], **info}
    drills = {1: {"finished": NOW, "passed": True, "found": []}}
    failures, unproven, seen = mailhost_backup.judge(
        pillar()["backup"], {**GOOD_SERVER, **server}, there, {"t": {**TIMER, **timer}}, drills, NOW
    )
    assert failures == ([words] if words else [])
    assert not unproven
    if not words:
        assert seen == "repository 1 has 1 base backup, and all WAL; restored and compared at 2026-11-23 12:00 UTC"


def test_without_a_drill_nothing_is_proven() -> None:
    there = {"repositories": repositories("7"), "backups": [row("x", 1, 1, "full", int(NOW.timestamp()))]}
    assert mailhost_backup.judge(pillar()["backup"], GOOD_SERVER, there, {}, {}, NOW)[:2] == ([], ["no drill yet"])


def test_units() -> None:
    found = mailhost_backup.units(pillar(at="03:30", alarms={"textfile": "/var/lib/node/pg.prom"})["backup"])
    assert found["mailhost-pg-backup.timer"][1]["when"] == "*-*-* 03:30:00"
    assert "ReadWritePaths=-/var/lib/node" in found["mailhost-pg-check.service"][1]["lines"]
    limits = {name: context["limit"] for name, (source, context) in found.items() if source == "service"}
    assert limits.pop("mailhost-pg-check.service") == "15min"
    assert set(limits.values()) == {"6h"}
    assert set(mailhost_backup.TIMERS) <= set(found)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A host with two repositories, on which nothing runs."""
    for module in (verify, backup):
        monkeypatch.setattr(module, "alone", lambda wait: config.alone(wait, tmp_path / "lock"))
    (tmp_path / "cluster").write_text("6\n")
    return SimpleNamespace(
        repositories=(1, 2), state=tmp_path, marker=tmp_path / "cluster", full_weekday="Sun", database="mailserver"
    )


@pytest.mark.parametrize(
    ("seen", "noted"),
    [
        ({1: [], 2: []}, []),
        ({1: None, 2: []}, None),
        ({1: [], 2: None}, None),
        ({1: ["a gap"], 2: None}, ["a gap"]),
    ],
)
def test_what_was_not_read_is_not_in_order(
    host: Any, monkeypatch: pytest.MonkeyPatch, seen: dict[int, list[str] | None], noted: list[str] | None
) -> None:
    """A damage that was found before stays an alarm until all has been read again."""

    def look(_: object, number: int, listing: bool) -> list[str]:
        found = seen[number]
        if found is None:
            raise config.Failed("cannot be reached")
        return found

    monkeypatch.setattr(verify, "look", look)
    monkeypatch.setattr(scratch, "remove", lambda: False)
    monkeypatch.setattr(restore, "clear_export", lambda _: None)
    before = {"finished": "2026-11-23T04:00:10+00:00", "found": ["repository 1 has damaged files"]}
    (host.state / verify.NAME).write_text(json.dumps(before))
    with contextlib.suppress(config.Failed):
        verify.main(host, SimpleNamespace(repository=None, scheduled=True))  # type: ignore[arg-type]
    found = json.loads((host.state / verify.NAME).read_text())
    assert (found == before) if noted is None else (found["found"] == noted)


def test_a_backup_is_of_the_cluster_that_is_there_after_tidying_up(
    host: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed restore that is brought to its end may change it; a repository without the backup keeps none other."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(restore, "tidy", lambda _: host.marker.write_text("7\n"))
    monkeypatch.setattr(container, "sql", lambda *_: "")
    monkeypatch.setattr(pgbackrest, "run", lambda _, *words: ran.append(words))
    monkeypatch.setattr(pgbackrest, "info", lambda _: pgbackrest.parse(SAID))
    with pytest.raises(
        config.Failed, match=r"^repository 2: the backup that was made is not among those of cluster 7$"
    ):
        backup.main(host, SimpleNamespace(repository=None, scheduled=True, dry_run=False, type="full"))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "repository 1: bad, 10 bytes of 100\n"
    assert [words[0] for words in ran] == ["--repo=1", "--repo=2"]


@pytest.mark.parametrize(
    ("states", "where"),
    [
        # Running, restarting, start: before, and after a program in the container has failed.
        ([(False, False, "a")], ["beside"]),
        ([(True, True, "a")], ["beside"]),
        ([(True, False, "a"), (True, False, "a")], ["inside"]),
        ([(True, False, "a"), (True, True, "a")], ["inside", "beside"]),
        ([(True, False, "a"), (True, False, "b")], ["inside", "beside"]),
    ],
)
def test_nothing_runs_in_a_container_that_is_started_again_and_again(
    monkeypatch: pytest.MonkeyPatch, states: list[tuple[bool, bool, str]], where: list[str]
) -> None:
    ran = []

    def run(argv: list[str], **_: object) -> str:
        if argv[:2] == ["docker", "container"]:
            up, again, since = states.pop(0)
            return json.dumps([{"State": {"Running": up, "Restarting": again, "StartedAt": since}}])
        ran.append({"exec": "inside", "run": "beside"}[argv[1]])
        if ran[-1] == "inside":
            raise config.Failed("it ended")
        return "done"

    monkeypatch.setattr(container, "run", run)
    there: Any = SimpleNamespace(container="c", stanza="mail", uid=9, image="i", offsite=None)
    there.archive = there.backups = there.project = there.data = Path("/x")
    if where[-1] == "beside":
        assert pgbackrest.run(there, "info") == "done"
    else:
        with pytest.raises(config.Failed, match="it ended"):
            pgbackrest.run(there, "info")
    assert ran == where


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/opt/postgres/restore")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("mailhost_pg.config.load", lambda: None)
    monkeypatch.setattr("mailhost_pg.verify.main", full)
    assert tool.main(["verify"]) == 1
    assert "mailhost-pg verify: [Errno 28] No space left on device" in capsys.readouterr().err
