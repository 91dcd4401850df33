"""Restore drills on a real host: what they prove, what they find, and that nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labkit import Host
from labkit.machine import ENVIRONMENT

from .conftest import PSQL, _started

pytestmark = pytest.mark.lab

ARCHIVE = "/opt/postgres/wal_archive/mail"
BACKUPS = "/opt/postgres/backups/mail"
PROOFS = "/var/lib/mailhost-pg/drills.jsonl"
SCRATCH, DIRECTORY = "mailserver-postgres-drill", "/opt/postgres/drill"


@pytest.fixture(scope="module")
def host(_converged: Host) -> Host:
    """A running host to which all tasks have been applied, with its database up."""
    host = _started(_converged, "converged")
    ready(host)
    return host


def ready(host: Host) -> None:
    """Wait for the database."""
    host.run(["systemctl", "start", "mailserver-postgres"])


def sql(host: Host, query: str, database: str = "mailserver") -> str:
    """Return what the database answers its superuser."""
    return host.run(["sh", "-euc", f"{PSQL} -d {database}"], input=query).stdout.strip()


def drill(host: Host, code: int = 0) -> dict[str, Any]:
    """Run a drill and return its proof, which is also the last one filed; nothing of it is left."""
    done = host.run(["mailhost-pg", "drill", "--json"], check=False)
    assert done.returncode == code, done
    proof: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(host.read(PROOFS).splitlines()[-1]) == proof
    assert proof["passed"] is (code == 0)
    assert left(host) == ""
    return proof


def left(host: Host) -> str:
    """Return what there is of a drill: its container, a volume of that, its directory."""
    look = f"docker ps --all --filter name={SCRATCH} --format '{{{{.Names}}}}'; docker volume ls --quiet;"
    look += f" find {DIRECTORY.rpartition('/')[0]} -maxdepth 1 -path {DIRECTORY}"
    return host.run(["sh", "-euc", look]).stdout


def segments(host: Host) -> list[str]:
    """Return the paths of the segments in the archive, oldest first."""
    return host.run(["sh", "-euc", f"ls {ARCHIVE}/*/*/*.zst"]).stdout.split()


@contextlib.contextmanager
def changed(host: Host, path: str) -> Iterator[None]:
    """Change one bit in the middle of a file, and change it back."""
    flip = (
        f"import os; stream = open({path!r}, 'r+b'); place = os.path.getsize({path!r}) // 2; stream.seek(place);"
        " byte = stream.read(1)[0] ^ 1; stream.seek(place); stream.write(bytes([byte]))"
    )
    host.run(["python3", "-c", flip])
    try:
        yield
    finally:
        host.run(["python3", "-c", flip])


def test_a_drill_proves_that_the_newest_rows_come_back(host: Host) -> None:
    sql(host, "INSERT INTO mail.virtual_domains (name) SELECT 'd' || n || '.example' FROM generate_series(1, 500) n")
    drill(host)
    proof = drill(host)
    assert proof["rows"]["mail.virtual_domains"] == 500
    assert proof["rows"]["backup.heartbeat"] >= 2
    assert proof["schema"] == sql(host, "SELECT max(name) FROM mail.schema_migrations")
    assert proof["found"] == []
    assert 0 < proof["rpo_seconds"] < 60  # since the heartbeat of the drill before
    assert 0 < proof["rto_seconds"] < 60
    newest = json.loads(host.run(["mailhost-pg", "check", "--json"]).stdout)["facts"]["repositories"][0]["backups"][-1]
    assert proof["backup"]["label"] == newest["label"]
    # Docker says so where the kernel cannot bound memory; then the proof does not claim it.
    bounds = host.run(["docker", "info", "--format", "{{.MemoryLimit}}"]).stdout.strip() == "true"
    assert (proof["limits"]["memory_mb"] is not None) is bounds


def test_what_it_runs_in_reaches_nothing(host: Host) -> None:
    with running(host):
        found = json.loads(host.run(["docker", "inspect", SCRATCH]).stdout)[0]
    assert found["HostConfig"]["NetworkMode"] == "none"
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["Config"]["User"] == "999:999"
    assert [mount["Destination"] for mount in found["Mounts"] if mount["RW"]] == ["/var/lib/postgresql/data"]
    assert {"/var/lib/pgbackrest/archive", "/var/lib/pgbackrest/backup"} < {m["Destination"] for m in found["Mounts"]}


def test_writers_are_not_waited_for_in_line(host: Host) -> None:
    """A transaction that writes to a table holds a drill up, and the drill holds nobody else up."""
    slow = "BEGIN; UPDATE mail.virtual_domains SET comment = 'x'; SELECT pg_sleep(4); COMMIT;"
    writer = subprocess.Popen(
        [*host.enter(), "sh", "-euc", f'{PSQL} -d mailserver -c "{slow}"'], stdout=subprocess.DEVNULL
    )
    time.sleep(0.5)
    with running(host, seconds=0.5):
        begun = time.monotonic()
        sql(host, "INSERT INTO mail.virtual_domains (name) VALUES ('quick.example')")
        assert time.monotonic() - begun < 2
    assert writer.wait() == 0
    assert json.loads(host.read(PROOFS).splitlines()[-1])["passed"]


def test_too_little_room_is_said_before_anything_is_restored(host: Host) -> None:
    with settings(host, drill={"max_age_hours": 30, "memory_mb": 1024, "disk_gb": 0.01}):
        assert "MB do not fit into the 10 MB that a drill may take" in drill(host, 1)["found"][0]


def test_damage_in_the_archive_and_in_a_backup_is_found(host: Host) -> None:
    rows = "INSERT INTO mail.virtual_domains (name) SELECT 'e' || n || '.example' FROM generate_series(1, 3000) n"
    name = sql(host, f"{rows}; SELECT pg_walfile_name(pg_current_wal_lsn()), pg_switch_wal()").split("|")[0]
    drill(host)
    last = next(path for path in segments(host) if name in path)

    with changed(host, last):
        found = drill(host, 1)["found"]
    assert re.search(rf"{name} (is damaged in|cannot be read from) repository 1", found[0])

    host.run(["mv", last, "/root/kept"])
    found = drill(host, 1)["found"]
    assert re.search(rf"s of writes are lost \(segment {name} is missing in the archive", found[0])
    host.run(["mv", "/root/kept", last])

    bundle = host.run(["sh", "-euc", f"ls -S $(ls -d {BACKUPS}/*F | tail -1)/bundle/* | head -1"]).stdout.strip()
    with changed(host, bundle):
        # What pgBackRest says depends on which byte of a compressed file it was.
        assert re.search(r"cannot be restored: .*\[(ChecksumError|FormatError)\]", drill(host, 1)["found"][0])

    assert drill(host)["found"] == []


@pytest.mark.thorough("rare, and takes minutes")
def test_a_stopped_archiver_is_found(host: Host) -> None:
    """Everything that is restored is in order, and old: only the comparison with the live server tells."""
    place = segments(host)[-1].rsplit("/", 1)[0]
    host.run(["chmod", "555", place])
    try:
        proof = drill(host, 1)
    finally:
        host.run(["chmod", "755", place])
    assert re.search(r"segment \w{24} is not in the archive after \d+ s", proof["found"][0])
    assert f"reached {proof['reached']} and not {proof['lsn']}, where the live server was" in proof["found"][1]
    assert len(proof["found"]) == 2


@pytest.mark.thorough("rare, and takes minutes")
def test_what_was_damaged_before_the_backup_is_found(host: Host) -> None:
    """An index that lacks a row, and a page that was changed on the disk: backups carry both along."""
    sql(
        host,
        "CREATE TABLE one (n integer PRIMARY KEY); UPDATE pg_index SET indisready = false"
        " WHERE indexrelid = 'one_pkey'::regclass; INSERT INTO one VALUES (1);"
        " UPDATE pg_index SET indisready = true WHERE indexrelid = 'one_pkey'::regclass",
        "postgres",
    )
    assert "lacks matching index tuple" in drill(host, 1)["found"][0]
    # Nobody writes to it afterwards: what is written to a page first after a checkpoint is all of it, and mends it.
    path = sql(
        host,
        "DROP TABLE one; CREATE TABLE two WITH (autovacuum_enabled = off) AS"
        " SELECT n, repeat('x', 80) FROM generate_series(1, 5000) n; CHECKPOINT;"
        " SELECT pg_relation_filepath('two')",
        "postgres",
    )
    with changed(host, f"/opt/postgres/data/{path}"):
        host.run(["mailhost-pg", "backup", "--type=full"])
    checked = json.loads(host.run(["mailhost-pg", "check", "--json"], check=False).stdout)
    assert "has pages whose checksums are wrong" in str(checked["found"])
    assert any("pg_checksums" in words or "invalid page" in words for words in drill(host, 1)["found"])
    sql(host, "DROP TABLE two", "postgres")
    host.run(["mailhost-pg", "backup", "--type=full"])
    assert drill(host)["found"] == []


@pytest.mark.shown_by("TERM")
@pytest.mark.parametrize("end", ["TERM", "INT", "KILL"])
def test_nothing_is_left_when_it_is_killed(host: Host, end: str) -> None:
    before = host.read(PROOFS)
    with running(host) as process:
        host.run(["sh", "-euc", f"kill -{end} $(pgrep -of 'mailhost-pg drill')"])
        process.wait(30)
        gone(host)
    # It proved nothing, and so nothing is filed.
    assert host.read(PROOFS) == before


def test_nothing_is_left_of_the_unit_when_it_is_killed(host: Host) -> None:
    for kill, after in (
        ("kill -9 $(systemctl show -p MainPID --value mailhost-pg-drill)", "true"),
        # What cleans up is killed too: the next check does it, in five minutes at the latest.
        ("systemctl kill -s KILL --kill-whom=all mailhost-pg-drill", "mailhost-pg check --scheduled || [ $? -le 2 ]"),
    ):
        host.run(["systemctl", "start", "--no-block", "mailhost-pg-drill"])
        appeared(host)
        host.run(["sh", "-euc", f"{kill}; sleep 1; {after}"])
        gone(host)
        host.run(["systemctl", "reset-failed", "mailhost-pg-*"])


def test_nothing_is_left_after_a_power_cut(host: Host) -> None:
    host.run(["systemctl", "start", "--no-block", "mailhost-pg-drill"])
    appeared(host)
    host.power_cut()
    host.boot(port=None)
    ready(host)
    host.run(["mailhost-pg", "check", "--scheduled"], check=False)
    gone(host)
    assert drill(host)["found"] == []


@pytest.mark.thorough("rare, and takes minutes")
def test_after_a_restore_it_follows_the_new_time_line(host: Host) -> None:
    host.run(["mailhost-pg", "restore", "--latest", "--yes"])
    assert sql(host, "SELECT pg_walfile_name(pg_current_wal_lsn())").startswith("00000002")
    sql(host, "INSERT INTO mail.virtual_domains (name) VALUES ('after.example')")
    proof = drill(host)
    assert proof["found"] == []
    assert proof["rows"]["mail.virtual_domains"] == int(sql(host, "SELECT count(*) FROM mail.virtual_domains"))


@contextlib.contextmanager
def running(host: Host, seconds: float | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a drill beside; begin when its container is there, or after some seconds, and end with it."""
    process = subprocess.Popen(
        [*host.enter(), "mailhost-pg", "drill"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if seconds is None:
            appeared(host)
        else:
            time.sleep(seconds)
        yield process
    finally:
        process.wait(120)


def beside(host: Host, *argv: str) -> subprocess.Popen[bytes]:
    """Start a program in a host and return its process."""
    return subprocess.Popen(
        [*host.enter(), *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )


@contextlib.contextmanager
def settings(host: Host, **changes: Any) -> Iterator[None]:
    """Give the tool other settings."""
    path = "/etc/mailhost-pg.json"
    before = host.read(path)
    host.put(json.dumps({**json.loads(before), **changes}), path)
    try:
        yield
    finally:
        host.put(before, path)


def appeared(host: Host) -> None:
    """Wait until a drill has its container."""
    until = time.monotonic() + 60
    while SCRATCH not in left(host):
        assert time.monotonic() < until
        time.sleep(0.2)


def gone(host: Host) -> None:
    """Wait until nothing of a drill is left: it takes Docker a moment to end what was started."""
    until = time.monotonic() + 60
    while there := left(host):
        assert time.monotonic() < until, there
        time.sleep(0.2)
