"""Alarms about the backups, each really provoked on one host, and the hook that is told of failed units."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labkit import Host
from mailhost_pg.check import QUESTION

from .conftest import _started
from .test_drill import ARCHIVE, BACKUPS, drill, ready, segments, settings, sql

pytestmark = pytest.mark.lab

OK, WARNING, CRITICAL = range(3)
LIMITS = {"backup_age_hours": 30, "wal_age_minutes": 15, "pg_wal_mb": 1024, "disk_free_percent": 1, "textfile": None}
HOOK = "/usr/local/sbin/told"
TOLD = "/root/told"


@pytest.fixture(scope="module")
def host(_converged: Host) -> Host:
    """A running host to which all tasks have been applied, with a drill behind it, and nothing that runs by itself."""
    host = _started(_converged, "converged")
    ready(host)
    drill(host)
    return host


# Another clock since boot, an hour on, is to a program the same as a wall clock that was set back by an hour, which no
# lab host may do: it is this machine's. It takes a user namespace, with everybody in it.
APART = """
import os, sys
ready, go = os.pipe(), os.pipe()
if not (child := os.fork()):
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWTIME)
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    open("/proc/self/timens_offsets", "w").write("boottime 3600 0")
    if not os.fork():
        os.execvp(sys.argv[1], sys.argv[1:])
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.read(ready[0], 1)
for kind in ("uid_map", "gid_map"):
    open(f"/proc/{child}/{kind}", "w").write("0 0 65536")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def check(host: Host, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return how a check ended, and of each thing how bad it is and what was seen."""
    done = host.run(["mailhost-pg", "check", "--json", *words], check=False)
    found = json.loads(done.stdout)
    assert found["level"] == ("OK", "WARNING", "CRITICAL")[done.returncode]
    return done.returncode, {row["name"]: (row["level"], row["found"]) for row in found["found"]}


@contextlib.contextmanager
def limits(host: Host, **changes: Any) -> Iterator[None]:
    """Let alarms begin elsewhere: what takes hours on a host takes seconds here."""
    with settings(host, alarms={**LIMITS, **changes}):
        yield


def until_failing(host: Host) -> None:
    """Wait until the archiver has failed, and not succeeded since."""
    until = time.monotonic() + 60
    query = "SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver"
    while sql(host, query) != "t":
        assert time.monotonic() < until
        time.sleep(0.5)


def test_in_order(host: Host) -> None:
    with limits(host):
        code, found = check(host)
        assert code == OK, found
        shown = host.run(["mailhost-pg", "check"]).stdout.splitlines()
    assert shown[0] == "OK: backups and archiving are in order"
    assert len(shown) == len(found) + 1


def test_archiving_that_fails_and_catches_up(host: Host) -> None:
    """Archiver, waiting segments, pg_wal and the age of the archive; then all of it goes by itself."""
    place = segments(host)[-1].rsplit("/", 1)[0]
    host.run(["chmod", "555", place])
    try:
        sql(host, "CREATE TABLE public.grown (n integer)", "postgres")
        for _ in range(3):
            sql(host, "INSERT INTO public.grown VALUES (1); SELECT pg_switch_wal()", "postgres")
        until_failing(host)
        with limits(host):
            code, found = check(host)
            assert (code, found["archiver"][0]) == (WARNING, "WARNING")
            assert "cannot be archived: the server's log says why" in found["archiver"][1]
            assert found["waiting"] == ("OK", "3 segments wait for it (48 MB), 0 too long")
        with limits(host, wal_age_minutes=0.02, pg_wal_mb=20):
            code, found = check(host)
            assert code == CRITICAL
            assert {name for name, (level, _) in found.items() if level == "CRITICAL"} == {
                "archiver",
                "waiting",
                "WAL age",
            }
        # Beyond max_wal_size, which is 1 GB.
        more = "INSERT INTO public.grown VALUES (1); SELECT pg_switch_wal();\n"
        sql(host, more * 66, "postgres")
        with limits(host):
            assert check(host)[1]["waiting"][0] == "WARNING"
        with limits(host, pg_wal_mb=16):
            assert check(host)[1]["pg_wal"][0] == "CRITICAL"
    finally:
        host.run(["chmod", "755", place])
        sql(host, "DROP TABLE public.grown; CHECKPOINT", "postgres")
    until = time.monotonic() + 120
    while (seen := check(host))[0] != OK:
        assert time.monotonic() < until, seen
        time.sleep(2)


def test_a_slot_that_nobody_reads(host: Host) -> None:
    sql(host, "SELECT pg_create_physical_replication_slot('gone', true)")
    try:
        with limits(host):
            code, found = check(host)
            assert (code, found["slot gone"][0]) == (WARNING, "WARNING")
            assert "has no reader" in found["slot gone"][1]
        sql(host, "SELECT pg_switch_wal()")
        with limits(host, pg_wal_mb=1):
            assert check(host)[1]["slot gone"][0] == "CRITICAL"
        # Before version 17 the server does not say since when: what there is then are the heartbeats.
        sql(host, "INSERT INTO backup.heartbeat (source, beat_at) VALUES ('check', now() - interval '1 hour')")
        seen = json.loads(sql(host, QUESTION.replace("inactive_since", "not_there")))["slots"]
        assert [slot["idle"] > 3600 for slot in seen if slot["name"] == "gone"] == [True]
    finally:
        sql(host, "SELECT pg_drop_replication_slot('gone')")
        sql(host, "DELETE FROM backup.heartbeat WHERE beat_at < now() - interval '1 hour'")


def test_base_backups(host: Host) -> None:
    """Too old, smaller by half than the one before, and not to be read."""
    with limits(host, backup_age_hours=0.0001):
        assert check(host)[1]["backup 1"][0] == "CRITICAL"
    sql(host, "CREATE TABLE big AS SELECT n, repeat('x', 500) FROM generate_series(1, 80000) n", "postgres")
    host.run(["mailhost-pg", "backup", "--type=full"])
    sql(host, "DROP TABLE big; CHECKPOINT", "postgres")
    host.run(["mailhost-pg", "backup", "--type=full"])
    with limits(host):
        code, found = check(host)
        assert (code, found["backup 1 size"][0]) == (WARNING, "WARNING")
        files = f"{BACKUPS}/backup.info {BACKUPS}/backup.info.copy"
        host.run(["sh", "-euc", f"mkdir /root/kept; mv {files} /root/kept"])
        try:
            code, found = check(host)
            assert (code, found["backup 1"][0]) == (CRITICAL, "CRITICAL"), found
        finally:
            host.run(["sh", "-euc", f"mv /root/kept/* {BACKUPS}; rmdir /root/kept"])
    host.run(["mailhost-pg", "backup", "--type=full"])
    assert check(host)[0] == OK


def test_a_disk_that_fills(host: Host) -> None:
    """A file system of its own, 8 MB large, takes the place of the backups' on the host."""
    host.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", "/opt/postgres/backups"])
    try:
        with limits(host, disk_free_percent=20):
            host.run(["fallocate", "-l", "7M", "/opt/postgres/backups/7"])
            code, found = check(host)
            assert (code, found["disk /opt/postgres/backups"]) == (WARNING, ("WARNING", "12 % of its room is free"))
            host.run(["fallocate", "-l", "512K", "/opt/postgres/backups/half"])
            code, found = check(host)
            assert (code, found["disk /opt/postgres/backups"][0]) == (CRITICAL, "CRITICAL")
    finally:
        host.run(["umount", "/opt/postgres/backups"])


def test_a_drill_that_is_too_old_or_failed_or_never_was(host: Host) -> None:
    path = "/var/lib/mailhost-pg/drills.jsonl"
    with limits(host):
        with settings(host, drill={"max_age_hours": 0, "memory_mb": 1024, "disk_gb": 20}):
            code, found = check(host)
            assert (code, found["drill"][0]) == (CRITICAL, "CRITICAL")
        last = segments(host)[-1]
        host.run(["mv", last, "/root/kept"])
        try:
            words = drill(host, 1)["found"][0]
        finally:
            host.run(["mv", "/root/kept", last])
        code, found = check(host)
        assert (code, found["drill"][0]) == (CRITICAL, "CRITICAL")
        assert words in found["drill"][1]
        host.run(["mv", path, "/root/kept"])
        assert check(host)[1]["drill"] == ("CRITICAL", "no restore drill has ended yet")
        host.run(["mv", "/root/kept", path])
        drill(host)
        assert check(host)[0] == OK


def test_a_clock_that_was_set(host: Host) -> None:
    with limits(host):
        check(host, "--scheduled")
        done = host.run(["python3", "-c", APART, "mailhost-pg", "check", "--json"], check=False)
        found = {row["name"]: (row["level"], row["found"]) for row in json.loads(done.stdout)["found"]}
        assert done.returncode == WARNING
        assert found["clock"][0] == "WARNING"
        assert "was set by -3600 s" in found["clock"][1]
        sql(host, "INSERT INTO backup.heartbeat (beat_at, source) VALUES (now() + interval '1 hour', 'check')")
        code, found = check(host)
        assert (code, found["clock"][0]) == (CRITICAL, "CRITICAL")
        assert "before what was written last: it was set back" in found["clock"][1]
        sql(host, "DELETE FROM backup.heartbeat WHERE beat_at > now()")
        assert check(host)[0] == OK


def test_a_heartbeat_and_metrics_at_every_scheduled_check(host: Host) -> None:
    before = int(sql(host, "SELECT count(*) FROM backup.heartbeat WHERE source = 'check'"))
    with limits(host, textfile="/srv/backups.prom"):
        check(host)
        assert host.run(["test", "-e", "/srv/backups.prom"], check=False).returncode == 1
        check(host, "--scheduled")
    assert int(sql(host, "SELECT count(*) FROM backup.heartbeat WHERE source = 'check'")) == before + 1
    text = host.read("/srv/backups.prom")
    assert 'mailhost_pg_alarm{of="drill"} 0\n' in text
    assert 'mailhost_pg_drill_passed{repository="1"} 1\n' in text
    assert host.run(["stat", "-c", "%a", "/srv/backups.prom"]).stdout == "644\n"


def test_the_hook_is_told_of_failed_units_once_for_each_reason(host: Host) -> None:
    """The server is down: the check's unit fails, again and again, and the drill's too."""
    host.put(f'#!/bin/sh\n{{ echo "unit $*"; cat; }} >>{TOLD}\n', HOOK, 0o755)
    with settings(host, hook=HOOK, alarms=LIMITS):
        host.run(["systemctl", "stop", "mailserver-postgres"])
        code, found = check(host)
        assert (code, found["server"][0]) == (CRITICAL, "CRITICAL")
        for _ in range(2):
            assert host.run(["systemctl", "start", "mailhost-pg-check"], check=False).returncode == 1
            settled(host)
        told = host.read(TOLD)
        assert told.count("unit mailhost-pg-check.service\n") == 1
        assert told.splitlines()[1].startswith("Starting mailhost-pg-check.service"), told
        assert told.splitlines()[2].startswith("CRITICAL: server: the server does not answer"), told

        assert host.run(["systemctl", "start", "mailhost-pg-drill"], check=False).returncode == 1
        settled(host)
        assert host.read(TOLD).count("unit mailhost-pg-drill.service\n") == 1

        # Everything is well again, and then not: that is news.
        host.run(["systemctl", "start", "mailserver-postgres"])
        drill(host)
        assert host.run(["systemctl", "start", "mailhost-pg-check"], check=False).returncode == 0
        host.run(["systemctl", "stop", "mailserver-postgres"])
        host.run(["systemctl", "start", "mailhost-pg-check"], check=False)
        settled(host)
        assert host.read(TOLD).count("unit mailhost-pg-check.service\n") == 2
    host.run(["sh", "-euc", "systemctl start mailserver-postgres; systemctl reset-failed 'mailhost-pg-*'"])


def settled(host: Host) -> None:
    """Wait until the hook has been told."""
    until = time.monotonic() + 30
    states = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", "mailhost-pg-failed@*"]
    time.sleep(0.3)
    while host.run(states).stdout.strip():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_stanza_without_an_archive(host: Host) -> None:
    """Nothing was ever archived, or all of it is gone."""
    host.run(["mv", ARCHIVE, "/root/archive"])
    try:
        with limits(host):
            code, found = check(host)
            assert (code, found["WAL age"]) == (CRITICAL, ("CRITICAL", "nothing has been archived"))
    finally:
        host.run(["mv", "/root/archive", ARCHIVE])
