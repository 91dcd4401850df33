"""Archiving loses nothing, whatever happens to host, disk and archive; backups go off the host and stay long enough."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from labkit import Host, Lab
from labkit.checkout import Checkout

from .conftest import PSQL, SERVER, Exact

pytestmark = pytest.mark.lab

SLS = "backup.ready"
PGBACKREST = "docker exec mailserver-postgres pgbackrest --stanza=mail"
ARCHIVE, BACKUPS = "/opt/postgres/wal_archive", "/opt/postgres/backups"
WAITING = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"
# 8 MB that cannot be compressed, and the end of the segment.
RANDOM = "create extension if not exists pgcrypto; create table if not exists filling (b bytea);" + (
    "insert into filling select gen_random_bytes(1024) from generate_series(1, 8192); select pg_switch_wal()"
)
# An SFTP server as another peer of the VPN may be one: its user sees a directory, and no shell.
STORE = """
useradd -m -s /usr/sbin/nologin store
install -d /srv/chroot; install -d -o store -g store -m 700 /srv/chroot/mail-backups
install -d -o store -g store -m 700 /home/store/.ssh
install -o store -g store -m 600 /dev/stdin /home/store/.ssh/authorized_keys
printf 'Match User store\\n  ChrootDirectory /srv/chroot\\n  ForceCommand internal-sftp\\n' \
  >/etc/ssh/sshd_config.d/50-store.conf
systemctl restart ssh
"""
# pgBackRest with another clock: it decides by that what is old.
LATER = """
image=$(python3 -c 'import json; print(json.load(open("/etc/mailhost-pg.json"))["image"])')
library=$(dirname $(ls /usr/lib/*/faketime/libfaketime.so.1))
docker run --rm --network=none --user=999:999 --read-only --tmpfs=/tmp --volume=$library:/faketime:ro \
  --volume=/opt/postgres/wal_archive:/var/lib/pgbackrest/archive \
  --volume=/opt/postgres/backups:/var/lib/pgbackrest/backup \
  --volume=/opt/mail_server/postgres/pgbackrest:/etc/pgbackrest:ro \
  --env=LD_PRELOAD=/faketime/libfaketime.so.1 --env="FAKETIME=$1" \
  --entrypoint=pgbackrest "$image" --stanza=mail expire
"""
SPOILT = f"""
systemctl disable --now mailhost-pg-backup.timer
rm -r /usr/local/sbin/mailhost-pg /usr/local/lib/mailhost-pg
chmod 644 /opt/mail_server/postgres/pgbackrest/pgbackrest.conf
rm -r {ARCHIVE}/mail {BACKUPS}/mail
"""


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_spoilt_host_is_put_right(converged: Host, checkout: Checkout, exact: Exact) -> None:
    _healthy(converged)
    converged.run(["sh", "-euc", SPOILT])
    found = exact("backups: tool, timer and repository lost", converged, checkout, SLS)
    made = {f"{name}: {what}" for name, changes in found.real.changed.items() for what in changes}
    assert {
        "PostgreSQL: pgBackRest's settings: mode",
        "PostgreSQL: repositories for its WAL: repository 1",
        "Backups: a base backup: repository 1",
        "Backups: mailhost-pg: file",
        "Backups: mailhost-pg-backup.timer runs: active",
        "Backups: mailhost-pg-backup.timer runs: enabled",
    } <= made
    assert found.again.marks["2.1.3"] == found.again.marks["2.1.1"] == "[x]"
    # Encrypted from now on: what is there could not be read any more.
    checkout.pillar({**checkout.good_pillar(converged), "backup": {"cipher_pass": "x" * 40}})
    for test in (True, False):
        run = checkout.apply("postgres.container", test=test)
        assert "are not encrypted, which stays so for good" in run.failed["PostgreSQL: its backups stay what they are"]


def test_a_segment_is_archived_once_and_no_other_takes_its_place(converged: Host) -> None:
    _healthy(converged)
    _sql(converged, "create table t as select 1 as n; select pg_switch_wal()")
    _until(lambda: _sql(converged, WAITING) == "0", 30)
    segment = _sql(converged, "select last_archived_wal from pg_stat_archiver")
    push = f"{PGBACKREST} archive-push"
    assert converged.run(["sh", "-euc", f"{push} /var/lib/postgresql/data/pg_wal/{segment}"]).returncode == 0
    other = (
        f"mkdir /tmp/other; cp /var/lib/postgresql/data/pg_wal/{segment} /tmp/other;"
        f" printf x | dd of=/tmp/other/{segment} bs=1 seek=100000 conv=notrunc status=none;"
        f" pgbackrest --stanza=mail archive-push /tmp/other/{segment}"
    )
    refused = converged.run(["docker", "exec", "mailserver-postgres", "sh", "-euc", other], check=False)
    assert refused.returncode == 45, refused
    assert "already exists in the repo1 archive with a different checksum" in refused.stdout + refused.stderr
    assert converged.run(["mailhost-pg", "verify"]).returncode == 0


def test_an_archive_that_takes_nothing_leaves_the_database_up_and_catches_up(converged: Host) -> None:
    """Read-only, and full."""
    _healthy(converged)
    converged.run(["sh", "-euc", f"chown -R root: {ARCHIVE}/mail; find {ARCHIVE}/mail -type d -exec chmod 555 {{}} +;"
                   f" find {ARCHIVE}/mail -type f -exec chmod 444 {{}} +"])  # fmt: skip
    _sql(converged, "create table t as select 1 as n; select pg_switch_wal()")
    _until(lambda: _failing(converged), 30)
    assert _sql(converged, "insert into t values (2) returning n") == "2"
    said = converged.run(["mailhost-pg", "check"], check=False)
    assert said.returncode == 1 and "cannot be archived" in said.stdout, said
    converged.run(["sh", "-euc", f"chown -R 999:999 {ARCHIVE}/mail; chmod -R u+rwX {ARCHIVE}/mail"])
    # PostgreSQL tries again after a minute.
    _until(lambda: _sql(converged, WAITING) == "0", 90)

    converged.run(["sh", "-euc", f"systemctl stop mailserver-postgres; cp -a {ARCHIVE} /root/archive;"
                   f" mount -t tmpfs -o size=32m,mode=750,uid=999 tmpfs {ARCHIVE}; cp -a /root/archive/. {ARCHIVE};"
                   " systemctl start mailserver-postgres"])  # fmt: skip
    for _ in range(6):
        _sql(converged, RANDOM)
    _until(lambda: _failing(converged), 60)
    assert int(converged.run(["df", "--output=avail", ARCHIVE]).stdout.split()[1]) < 16384
    assert _sql(converged, "insert into t values (3) returning n") == "3"
    converged.run(["mount", "-o", "remount,size=1g", ARCHIVE])
    _until(lambda: _sql(converged, WAITING) == "0", 90)
    verified = converged.run(["mailhost-pg", "verify"])
    assert "status: ok" in verified.stdout


def test_no_row_is_lost_by_a_kill_or_a_power_cut_and_all_can_be_restored(converged: Host) -> None:
    """What was acknowledged is there: after a kill, and after power cuts in a backup and in archiving."""
    _healthy(converged)
    _sql(converged, "create table w (n int primary key, filling text)")
    acknowledged = _written(converged, f"kill -9 $({SERVER})")
    _until(lambda: _answers(converged), 60)
    assert int(_sql(converged, "select max(n) from w")) >= acknowledged > 0
    # Enough that a full backup takes a moment; and segments that are archived at that very moment.
    for _ in range(8):
        _sql(converged, RANDOM)
    for command in (["mailhost-pg", "backup", "--type=full"], ["sh", "-c", f'while {PSQL} -c "{RANDOM}"; do :; done']):
        job = subprocess.Popen([*converged.enter(), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        acknowledged = _written(converged, None)
        job.wait()
        converged.boot(port=None)
        _healthy(converged)
        assert int(_sql(converged, "select max(n) from w")) >= acknowledged > 0
        _until(lambda: _sql(converged, WAITING) == "0", 90)
        assert converged.run(["mailhost-pg", "verify"]).returncode == 0
    assert converged.run(["mailhost-pg", "backup"]).stdout.startswith("repository 1: ")
    assert converged.run(["mailhost-pg", "verify"]).returncode == 0
    assert "were restored up to" in converged.run(["mailhost-pg", "drill"]).stdout


def test_what_is_damaged_or_missing_is_found(converged: Host) -> None:
    _healthy(converged)
    for n in range(3):
        _sql(converged, f"create table t{n} as select 1 as n; select pg_switch_wal()")
    _until(lambda: _sql(converged, WAITING) == "0", 30)
    segments = sorted(converged.run(["sh", "-euc", f"ls {ARCHIVE}/mail/17-1/*/*.zst"]).stdout.split())
    flip = "printf '\\377' | dd of={} bs=1 seek={} conv=notrunc status=none"
    bundle = converged.run(["sh", "-euc", f"ls -S {BACKUPS}/mail/*F/bundle/* | head -n 1"]).stdout.strip()
    for path, words in ((segments[-2], "checksum invalid: 1"), (bundle, "status: invalid")):
        converged.run(["cp", "-a", path, "/root/whole"])
        converged.run(["sh", "-euc", flip.format(path, 300)])
        found = converged.run(["mailhost-pg", "verify"], check=False)
        assert found.returncode == 1 and words in found.stdout, found
        converged.run(["cp", "-a", "/root/whole", path])
    assert converged.run(["mailhost-pg", "verify"]).returncode == 0
    converged.run(["rm", segments[-2]])
    gap = converged.run(["mailhost-pg", "verify"], check=False)
    assert gap.returncode == 1
    assert f"after segment {segments[-3].split('/')[-1][:24]} 1 are missing" in gap.stderr


def test_retention_keeps_what_any_second_of_the_window_needs(converged: Host) -> None:
    _healthy(converged)
    converged.run(["sh", "-euc", "apt-get -qqy --no-install-recommends install libfaketime >/dev/null 2>&1"])
    for _ in range(2):
        _sql(converged, "create table if not exists t (n int); insert into t values (1); select pg_switch_wal()")
        time.sleep(1)
        converged.run(["mailhost-pg", "backup", "--type=full"])
    first, second, third = _info(converged)["backup"]
    week = 7 * 86400

    def left(moment: int) -> list[str]:
        at = time.strftime("@%Y-%m-%d %H:%M:%S", time.gmtime(moment))
        converged.run(["sh", "-euc", LATER, "sh", at])
        return [backup["label"] for backup in _info(converged)["backup"]]

    # The first second of the window is after the first backup and before the second: the first is still needed.
    assert left(first["timestamp"]["stop"] + week + 1) == [first["label"], second["label"], third["label"]]
    # It is after the second: what came before that is not.
    assert left(second["timestamp"]["stop"] + week + 1) == [second["label"], third["label"]]
    assert _info(converged)["archive"][0]["min"] == second["archive"]["start"]
    # However old, the last one stays.
    assert left(third["timestamp"]["stop"] + 50 * week) == [third["label"]]
    assert converged.run(["mailhost-pg", "verify"]).returncode == 0


@pytest.mark.thorough("rare, and takes minutes")
def test_a_second_repository_off_the_host(
    mail_lab: Lab, converged: Host, checkout: Checkout, exact: Exact, tmp_path: Any
) -> None:
    """On a real OpenSSH server: it fills, is away and comes back, and is not given to another cluster."""
    _healthy(converged)
    store = mail_lab.host("store")
    store.boot()
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mail", "-f", key], check=True)
    store.run(["sh", "-euc", STORE], input=key.with_suffix(".pub").read_text())
    keys = store.run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).stdout.splitlines()
    offsite = {
        "type": "sftp",
        "host": store.ipv4,
        "user": "store",
        "private_key": key.read_text(),
        "host_keys": keys,
        "cipher_pass": "a passphrase".replace(" ", "-") * 4,
    }
    pillar = {**checkout.good_pillar(converged), "backup": {"offsite": offsite}}
    checkout.pillar(pillar)
    found = exact("backups: a second repository", converged, checkout, SLS)
    made = {f"{name}: {what}" for name, changes in found.real.changed.items() for what in changes}
    assert made == {
        "PostgreSQL: pgBackRest's settings: content",
        "PostgreSQL: pgBackRest's settings for WAL in repository 1: file",
        "PostgreSQL: pgBackRest's settings for WAL in repository 2: file",
        "PostgreSQL: pgBackRest's archive command: content",
        "PostgreSQL: pgBackRest's offsite_key: file",
        "PostgreSQL: pgBackRest's known_hosts: file",
        "PostgreSQL: repositories for its WAL: repository 2",
        "Backups: the tool's settings: content",
        "Backups: a base backup: repository 2",
        "Backups: a restore drill: repository 2",
    }
    said = found.dry.result.stdout + found.real.result.stdout
    assert "PRIVATE KEY" not in said and offsite["cipher_pass"] not in said
    with_key = "grep -rl PRIVATE /opt/mail_server/postgres/pgbackrest | xargs stat -c %a"
    assert converged.run(["sh", "-c", with_key]).stdout == "400\n"
    # Nothing that is there can be read without the passphrase. Bundles are encrypted file by file, without the header.
    plain = "find /srv/chroot -type f ! -path '*/bundle/*' | while read -r file; do"
    plain += " head -c 8 $file | grep -q ^Salted__ || echo $file; done"
    assert store.run(["sh", "-c", plain]).stdout == ""

    # While it is away all goes into the one on the host, and PostgreSQL keeps what is owed.
    store.run(["systemctl", "stop", "ssh"])
    begun = time.monotonic()
    newest = _sql(converged, "create table t as select 1 as n; select pg_walfile_name(pg_switch_wal() - 1)")
    _until(lambda: newest in converged.run(["sh", "-c", f"ls {ARCHIVE}/mail/17-1/*"]).stdout, 240)
    print(f"in the repository on the host {time.monotonic() - begun:.0f} s after the other one went away")
    assert _sql(converged, WAITING) != "0"
    store.run(["systemctl", "start", "ssh"])
    _until(lambda: _sql(converged, WAITING) == "0", 240)
    assert converged.run(["mailhost-pg", "verify", "--repository=2"]).returncode == 0

    # A host that is new has a cluster of its own, which must not go where the old one's backups are.
    converged.run(["sh", "-euc", f"systemctl stop mailserver-postgres; rm -rf /opt/postgres/data/* {ARCHIVE}/mail"
                   f" {BACKUPS}/mail /opt/mail_server/postgres/cluster"])  # fmt: skip
    look = ["sh", "-c", "find /srv/chroot -type f -printf '%p %s %T@\\n' | sort"]
    before = store.run(look).stdout
    run = checkout.apply(SLS)
    assert (
        "`mailhost-pg restore --latest --repository 2` brings that cluster here" in run.failed["Backups: a base backup"]
    )
    assert store.run(look).stdout == before


def _written(host: Host, kill: str | None) -> int:
    """Write rows, each acknowledged before the next, and end the server, or cut the power; return the last that was."""
    writer = subprocess.Popen(
        [*host.enter(), *PSQL.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert writer.stdin and writer.stdout
    begin, acknowledged, number = time.monotonic(), 0, int(_sql(host, "select coalesce(max(n), 0) from w"))
    ended = False
    while True:
        number += 1
        try:
            writer.stdin.write(f"insert into w values ({number}, repeat('x', 1000)) returning n;\n")
            writer.stdin.flush()
        except BrokenPipeError:
            break
        if not (said := writer.stdout.readline().strip()):
            break
        acknowledged = int(said)
        if not ended and time.monotonic() - begin > 1.5:
            ended = True
            if kill is None:
                host.power_cut()
            else:
                host.run(["sh", "-euc", kill])
    writer.kill()
    writer.communicate()
    return acknowledged


def _info(host: Host) -> dict[str, Any]:
    (stanza,) = json.loads(host.run(["sh", "-euc", f"{PGBACKREST} info --output=json"]).stdout)
    return dict(stanza)


def _failing(host: Host) -> bool:
    return (
        _sql(host, "select last_failed_time > coalesce(last_archived_time, '-infinity') from pg_stat_archiver") == "t"
    )


def _sql(host: Host, query: str) -> str:
    """Return the last row that statements return, each in a transaction of its own."""
    rows = host.run(["sh", "-euc", PSQL], input=query).stdout.splitlines()
    return rows[-1] if rows else ""


def _answers(host: Host) -> bool:
    return host.run(["sh", "-euc", PSQL], input="select 1", check=False).returncode == 0


def _until(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.3)


def _healthy(host: Host, seconds: float = 90) -> None:
    """Wait until the unit has seen the container healthy."""
    state = ["systemctl", "is-active", "mailserver-postgres"]
    _until(lambda: host.run(state, check=False).stdout == "active\n", seconds)
