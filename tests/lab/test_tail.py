"""WAL as it is written: with it a loss of the data costs next to nothing, without it all since the last segment."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from labkit import Host
from labkit.checkout import Checkout

from .conftest import PSQL, Exact
from .test_restore import stamp, tool

pytestmark = pytest.mark.lab

SLS = "backup.ready"
TAIL, ACKED = "/opt/postgres/wal_tail", "/root/acked"
SLOT, UNIT = "mailhost_tail", "mailhost-pg-tail"
TIMEOUT = 10
# What the receiver has not been sent when its server dies is what was written in the last milliseconds; a machine that
# is busy with other things may let it wait.
LATE = 2.0
# Writes rows until the server is gone, with a pause after each hundred, and notes each when it is acknowledged.
WRITER = f"""
import time, psycopg
server = psycopg.connect("host=/run/mailserver-postgres user=postgres dbname=mailserver", autocommit=True)
number = server.execute("select coalesce(max(n), 0) from kept").fetchone()[0]
with open("{ACKED}", "w") as acked:
    while True:
        number += 1
        server.execute("insert into kept values (%s)", [number])
        print(number, time.time(), file=acked, flush=True)
        time.sleep(0.4 if number % 100 == 0 else 0.002)
"""
# Five segments, the last of them begun.
SEGMENTS = "create table if not exists filler (n int);" + "insert into filler values (1); select pg_switch_wal();" * 5


class Kept:
    """The rows that were acknowledged, with the moments, and those that are there."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.acked: dict[int, float] = {}

    def lose_the_data(self, seconds: float) -> None:
        """Write rows, and in the middle of it end the server and remove its data."""
        self.host.put(WRITER, "/root/writer.py")
        command = [*self.host.enter(), "python3", "/root/writer.py"]
        writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        self.host.run(["sh", "-euc", "docker kill mailserver-postgres; rm -r /opt/postgres/data"])
        writer.wait(60)
        lines = self.host.read(ACKED).splitlines()
        self.acked |= {int(number): float(moment) for number, moment in map(str.split, lines)}

    def lost(self) -> float:
        """Return the seconds from the last row that is there to the last that was acknowledged; none is there twice."""
        there = self.rows()
        missing = sorted(set(self.acked) - there)
        assert missing == sorted(self.acked)[len(self.acked) - len(missing) :]
        last = max(self.acked[number] for number in self.acked if number in there)
        seconds = max(self.acked.values()) - last
        print(f"{len(missing)} of {len(self.acked)} acknowledged rows lost, the last {seconds * 1000:.0f} ms")
        return seconds

    def rows(self) -> set[int]:
        """Return the rows that are there."""
        return {int(row) for row in sql(self.host, "select n from kept").split()}

    def pause(self) -> float:
        """Return a moment at which nothing was written, with rows after it."""
        return self.acked[max(self.acked) // 100 * 100 - 100] + 0.2


@pytest.mark.thorough("rare, and takes minutes")
def test_what_a_loss_of_the_data_costs(converged: Host, checkout: Checkout, exact: Exact) -> None:
    """Over two losses, a restore to before, a receiver that was away, one whose slot was lost; and without it."""
    host, kept = converged, Kept(converged)
    _until(lambda: _active(host, "mailserver-postgres"))
    backup: dict[str, Any] = {"archive_timeout": 300, "tail": {"enabled": True}}
    checkout.pillar({**checkout.good_pillar(host), "backup": backup})
    found = exact("WAL is streamed", host, checkout, SLS)
    assert found.again.marks["2.1.3"] == "[x]"
    assert f"WAL is streamed into {TAIL}" in found.again["2.1.3 is proven"].comment
    assert host.run(["stat", "-c", "%u:%g %a", TAIL]).stdout == "999:0 750\n"
    sql(host, "create table kept (n integer primary key)")

    # The loss: nothing of this segment is in the archive.
    kept.lose_the_data(3)
    said = tool(host, "restore", "--latest", "--yes").stdout
    assert f"and of {TAIL} into" in said
    assert kept.lost() < LATE
    _until(lambda: _read(host))
    assert "left" in host.run(["ls", TAIL]).stdout

    # A moment of the line that was lost, which only the tail ever had.
    moment = kept.pause()
    before = {number for number, acked in kept.acked.items() if acked < moment}
    tool(host, "restore", "--to", stamp(moment), "--yes")
    assert kept.rows() == before and len(before) < len(kept.acked)
    kept.acked = {number: kept.acked[number] for number in before}

    # The receiver is away meanwhile, and takes what it missed by its slot; then another loss, on the third line.
    _until(lambda: _read(host))
    host.run(["systemctl", "stop", UNIT])
    sql(host, SEGMENTS)
    level, words = _check(host)[f"slot {SLOT}"]
    assert level == "WARNING" and words.startswith("has no reader, "), words
    host.run(["systemctl", "start", UNIT])
    _until(lambda: _check(host)[f"slot {SLOT}"] == ("OK", "is read, 0 MB behind, reserved"))
    kept.lose_the_data(3)
    tool(host, "restore", "--latest", "--yes")
    assert kept.lost() < LATE

    # What the archive has goes.
    _until(lambda: _read(host))
    sql(host, SEGMENTS)
    _until(lambda: not re.search("^[0-9A-F]{24}$", host.run(["ls", TAIL]).stdout, re.MULTILINE))
    drill = json.loads(tool(host, "drill", "--json").stdout)
    assert drill["passed"], drill

    _slot_that_is_lost(host)
    host.run(["sh", "-euc", f"systemctl disable --now {UNIT}; rm -r {TAIL}"])
    sql(host, f"select pg_drop_replication_slot('{SLOT}'); alter role {SLOT} superuser")
    assert _check(host)[f"slot {SLOT}"] == ("CRITICAL", "is not there: WAL is not taken as it is written")
    found = exact("WAL is streamed: unit, directory, slot and role spoilt", host, checkout, SLS)
    assert set(found.real.changed) == {
        "Backups: role and slot of WAL's receiver",
        "Backups: where WAL is streamed to",
        f"Backups: {UNIT}.service runs",
        "PostgreSQL: its settings",
        "PostgreSQL runs",
    }
    _until(lambda: _read(host))

    checkout.pillar({**checkout.good_pillar(host), "backup": {"archive_timeout": TIMEOUT}})
    found = exact("WAL is not streamed any more", host, checkout, SLS)
    assert set(found.real["Backups: WAL is not streamed"].changes) == {"slot", "unit", "wal"}
    assert sql(host, f"select count(*) from pg_roles where rolname = '{SLOT}'") == "0"
    assert sql(host, "select count(*) from pg_replication_slots") == "0"
    assert host.run(["sh", "-c", f"ls -d {TAIL} /etc/systemd/system/{UNIT}.service"], check=False).stdout == ""

    # Without it: all since the last segment.
    kept.acked.clear()
    sql(host, "truncate kept")
    kept.lose_the_data(1.8 * TIMEOUT)
    tool(host, "restore", "--latest", "--yes")
    assert kept.lost() < TIMEOUT + 5


def _slot_that_is_lost(host: Host) -> None:
    """Let the receiver be away for longer than the server keeps WAL for it: the disk comes first, and is said."""
    conf = "/opt/mail_server/postgres/conf/postgresql.conf"
    smaller = "s/^max_slot_wal_keep_size.*/max_slot_wal_keep_size = 128MB/; s/^max_wal_size.*/max_wal_size = 32MB/"
    host.run(["sh", "-euc", f"systemctl stop {UNIT}; sed -i '{smaller}' {conf}"])
    sql(host, "select pg_reload_conf()")
    sql(host, f"{SEGMENTS} checkpoint")
    level, words = _check(host)[f"slot {SLOT}"]
    assert level == "WARNING" and words.endswith("extended"), words
    sql(host, f"{SEGMENTS} checkpoint")
    level, words = _check(host)[f"slot {SLOT}"]
    assert level == "CRITICAL" and words.endswith("lost"), words
    host.run(["systemctl", "start", UNIT])
    _until(lambda: _read(host))
    assert "the slot has lost WAL" in host.run(["journalctl", "-u", UNIT, "-o", "cat"]).stdout


def sql(host: Host, statements: str) -> str:
    """Return what the server answers to the superuser."""
    return host.run(["sh", "-euc", f"{PSQL} -d mailserver --file=-"], input=statements).stdout.strip()


def _check(host: Host) -> dict[str, tuple[str, str]]:
    """Return what a check says of each thing."""
    rows = json.loads(tool(host, "check", "--json", check=False).stdout)["found"]
    return {row["name"]: (row["level"], row["found"]) for row in rows}


def _read(host: Host) -> bool:
    """Whether somebody takes WAL from the slot."""
    asked = f"select active from pg_replication_slots where slot_name = '{SLOT}'"
    return sql(host, asked) == "t"


def _active(host: Host, unit: str) -> bool:
    return host.run(["systemctl", "is-active", unit], check=False).stdout == "active\n"


def _until(true: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.3)
