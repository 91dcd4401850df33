"""Restores, judged by the rows that come back: to a second, over time lines, after what can happen to a host."""

from __future__ import annotations

import bisect
import itertools
import json
import random
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compiled import ROOT
from labkit import Host, Lab
from labkit.checkout import Checkout

from .conftest import SERVER

pytestmark = pytest.mark.lab

# Seconds after each change in which nothing happens.
PAUSE = 0.3
DATA = "/opt/postgres/data"
MARKER = "/opt/mail_server/postgres/cluster"
PAGE = ROOT / "docs/operations/restore.md"
PSQL = (
    "docker exec -i mailserver-postgres psql -XAtq -v ON_ERROR_STOP=1 -U postgres -h /var/run/postgresql -d mailserver"
)
HASH = "{BLF-CRYPT}$2y$10$zSLGvekl00PIuB8jLVhPFeCvxdGQUbBWIn5LWrlQmx/bFinmAbD1C"
DOMAIN = f"""
insert into mail.virtual_domains (name) values ('example.org'), ('example.net');
insert into mail.virtual_domains (name, alias_of) values ('example.com', 'example.org');
insert into mail.virtual_users (email, password, comment) values
    ('ada@example.org', '{HASH}', E'it''s \\\\ "odd"\\n\\n;'), ('bob@example.net', '{HASH}', '');
insert into mail.virtual_aliases (source, destination) values
    ('@example.org', 'ada@example.org'), ('@example.net', 'bob@example.net');
"""
DELETE = """
delete from mail.virtual_aliases where domain = 'example.org';
delete from mail.virtual_users where domain = 'example.org';
delete from mail.virtual_domains where name = 'example.com';
delete from mail.virtual_domains where name = 'example.org';
"""
# Loses a file of the restored cluster's after everything was looked through.
BROKEN = """
import sys
sys.path.insert(0, "/usr/local/lib/mailhost-pg")
from mailhost_pg import __main__, recovery
clean = recovery.clean
def break_it(directory):
    clean(directory)
    (directory / "global/1262").unlink()
recovery.clean = break_it
sys.exit(__main__.main())
"""
# Stops at a function of the tool's, so that a test need not hit the moment.
HELD = """
import importlib, pathlib, sys, time
sys.path.insert(0, "/usr/local/lib/mailhost-pg")
from mailhost_pg import __main__
def hold(*_):
    pathlib.Path("/run/held").touch()
    time.sleep(3600)
module, function = sys.argv.pop(1).split(".")
setattr(importlib.import_module("mailhost_pg." + module), function, hold)
sys.exit(__main__.main())
"""
STORE = """
useradd -m -s /usr/sbin/nologin store
install -d /srv/chroot; install -d -o store -g store -m 700 /srv/chroot/mail-backups /home/store/.ssh
install -o store -g store -m 600 /dev/stdin /home/store/.ssh/authorized_keys
printf 'Match User store\\n  ChrootDirectory /srv/chroot\\n  ForceCommand internal-sftp\\n' \\
    >/etc/ssh/sshd_config.d/50-store.conf
systemctl restart ssh
"""
INFO = ("pgbackrest", "--stanza=mail", "--output=json", "info")
MAIL = ("virtual_domains", "virtual_users", "virtual_aliases")


def sql(host: Host, statements: str) -> str:
    """Return what the server answers to the superuser."""
    return host.run(["sh", "-euc", f"{PSQL} --file=-"], input=statements).stdout.strip()


def tool(host: Host, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run mailhost-pg."""
    return host.run(["mailhost-pg", *words], check=check)


def rows(host: Host) -> set[int]:
    """Return the rows of the test's own table."""
    return {int(row) for row in sql(host, "select n from kept").split()}


def refused(host: Host, *words: str) -> str:
    """Return the sentence with which mailhost-pg does not do something."""
    done = tool(host, *words, check=False)
    assert done.returncode in (1, 2), done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def stamp(moment: float) -> str:
    """Return a moment as operators write it."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1e6):06d}+00"


@dataclass
class Written:
    """What the database had at which time: each change of it, with the moment it was done."""

    host: Host
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    moments: list[float] = field(default_factory=list)
    states: list[set[int]] = field(default_factory=list)

    def note(self, state: set[int]) -> None:
        """Keep what there is from now on."""
        self.moments.append(time.time())
        self.states.append(state)
        time.sleep(PAUSE)

    def write(self, count: int) -> None:
        """Write rows, one after the other."""
        for _ in range(count):
            number = next(self.numbers)
            sql(self.host, f"insert into kept values ({number})")
            self.note(self.states[-1] | {number})

    def at(self, moment: float) -> set[int]:
        """Return what there was at a moment."""
        return self.states[bisect.bisect(self.moments, moment) - 1]

    def moment(self, begin: int) -> float:
        """Return a random moment at which nothing happened: in the pause after a change, of those from a number on."""
        return random.choice(self.moments[begin:]) + random.uniform(0.01, PAUSE - 0.02)

    def restored(self, moment: float) -> None:
        """Restore to a moment, and find exactly what there was."""
        said = tool(self.host, "restore", "--to", stamp(moment), "--yes").stdout
        assert rows(self.host) == self.at(moment), (stamp(moment), said)
        self.note(self.at(moment))


@pytest.fixture
def written(converged: Host) -> Written:
    """A host whose database has rows of known times, a base backup before them and one among them."""
    _healthy(converged)
    # What a boot has made up for, such as a drill, is done.
    converged.run(["flock", "/run/mailhost-pg.lock", "true"])
    sql(converged, "create table kept (n integer primary key)")
    made = Written(converged)
    made.note(set())
    made.write(3)
    return made


def test_ten_moments_over_several_time_lines(written: Written) -> None:
    """Before, between and after backups, and on lines that earlier restores have left."""
    host, seed = written.host, random.randrange(10**6)
    print(f"seed {seed}")
    random.seed(seed)
    tool(host, "backup", "--type=diff")
    written.write(3)
    lines = []
    for number in range(10):
        # The whole history, what came since the last restore, and what came in its later half.
        written.restored(written.moment((0, -3, len(written.moments) // 2)[number % 3]))
        lines.append(sql(host, "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"))
        written.write(2)
        if number in (3, 7):
            tool(host, "backup", "--type=diff")
    assert lines == [f"{number:08X}" for number in range(2, 12)]


def test_the_page(converged: Host, checkout: Checkout) -> None:
    """Each command of docs/operations/restore.md but those for a new host, in its order."""
    host, run = converged, _Page(converged, PAGE.read_text(encoding="utf-8"))
    _healthy(host)
    sql(host, DOMAIN)
    before = [sql(host, f"table mail.{name} order by 1, 2") for name in MAIL]
    time.sleep(0.1)
    run.moment = stamp(time.time())
    sql(host, DELETE)
    assert "full backup: " in run("info")
    assert "has 4 rows" in run("--domain")
    assert "has 2 rows" in run("--table")
    assert host.run(["stat", "-c", "%a %U", "/root/rows.sql"]).stdout == "600 root\n"
    assert "example.org" not in sql(host, "table mail.virtual_domains")
    run("</root/rows.sql")
    assert [sql(host, f"table mail.{name} order by 1, 2") for name in MAIL] == before

    sql(host, "update mail.virtual_users set comment = 'wrong'")
    found = host.run(["ls", "-i", "/opt/postgres"]).stdout
    assert run("--dry-run").startswith(f"Would restore the state of {run.moment}, 0 min ago, from full backup ")
    assert host.run(["ls", "-i", "/opt/postgres"]).stdout == found
    assert "every page of it has the checksum it should have" in run("14:03:05+00' --yes")
    assert [sql(host, f"table mail.{name} order by 1, 2") for name in MAIL] == before
    run("rm -r")
    assert host.run(["ls", "/opt/postgres"]).stdout.split() == ["backups", "data", "wal_archive"]
    applied = checkout.apply()
    assert applied.returncode == 0, applied.result
    assert not applied.changed

    # A server that cannot start, with a pg_wal of which the last is not archived; then nothing at all.
    host.run(
        ["sh", "-euc", f"{PSQL} -c 'create table last (n int)'; docker kill mailserver-postgres; rm -r {DATA}/base"]
    )
    assert f"and of {DATA}/pg_wal" in run("--latest --yes")
    assert sql(host, "select count(*) from last") == "0"
    host.run(["sh", "-euc", f"docker kill mailserver-postgres; rm -r {DATA}"])
    assert "where nothing is" in run("--latest --yes")
    assert sql(host, "select count(*) from last") == "0"
    assert run.left == {"mailhost-pg restore --latest --repository 2 --yes", "salt-ssh mail state.apply"}
    assert not checkout.apply().changed


@pytest.mark.thorough("rare, and takes minutes")
def test_what_is_damaged_or_missing_is_refused(written: Written) -> None:
    """Nothing is changed by it: the database goes on as it was."""
    host = written.host
    # Two more segments after those of the backup.
    for _ in range(2):
        written.write(1)
        sql(host, "select pg_switch_wal()")
    now = stamp(time.time())
    assert "Would restore" in tool(host, "restore", "--to", now, "--dry-run").stdout
    there = host.run(["sh", "-c", "ls -d /opt/postgres/*"]).stdout
    segments = host.run(["sh", "-c", "find /opt/postgres/wal_archive -name '*.zst' | sort"]).stdout.split()
    bundle = host.run(["sh", "-c", "ls -d /opt/postgres/backups/mail/*F/bundle/1 | tail -1"]).stdout.strip()
    for path, words in (
        (segments[-2], rf"{segments[-2].rpartition('/')[2][:24]} (is damaged|cannot be read)"),
        (segments[-1], rf"{segments[-1].rpartition('/')[2][:24]} (is damaged|cannot be read)"),
        (bundle, r"backup \d{8}-\d{6}F cannot be restored"),
    ):
        _flip(host, path)
        said = refused(host, "restore", "--to", now, "--yes")
        assert re.search(words, said), said
        _flip(host, path)
    host.run(["mv", segments[-2], "/root"])
    missing = segments[-2].rpartition("/")[2][:24]
    assert f"{missing} is missing in the archive" in refused(host, "restore", "--to", now, "--yes")
    assert rows(host) == written.states[-1]
    assert host.run(["sh", "-c", "ls -d /opt/postgres/*"]).stdout == there
    host.run(["mv", f"/root/{segments[-2].rpartition('/')[2]}", segments[-2]])
    for given, sentence in (
        (["--to", "2026-11-22 14:03:05"], "does not say its time zone"),
        (["--to", "2999-01-01 00:00:00+00"], "is yet to come"),
        (["--to", "2020-01-01 00:00:00+00"], "is not after the end of the first backup"),
        (["--latest", "--backup", "20200101-000000F"], "there is no backup 20200101-000000F: there are "),
        (["--latest", "--repository", "2"], "there is no repository 2"),
        (["--latest"], "nobody is there to ask"),
        ([], "say which state"),
    ):
        assert sentence in refused(host, "restore", *given)
    assert rows(host) == written.states[-1]


@pytest.mark.thorough("rare, and takes minutes")
def test_restores_that_are_cut_off(written: Written) -> None:
    """Before the swap all is as it was, after it the new directory counts; the next run leaves nothing of it."""
    host = written.host
    host.put(HELD, "/root/held.py")
    new, old, held = "test -e /opt/postgres/data.restoring", "ls -d /opt/postgres/data.before-*", "test -e /run/held"
    for place, sign, blow in (
        ("recovery.stop", new, "power cut"),  # while it copies, or a little later: it cannot get further than to there
        ("recovery.stop", held, "HUP"),  # the restored server is up
        ("recovery.stop", held, "KILL"),
        ("restore._start", old, "power cut"),
    ):
        swapped = sign == old
        host.run(["sh", "-c", "rm -rf /opt/postgres/data.before-* /run/held"])
        written.write(2)
        moment = written.moments[-2] + PAUSE / 2
        command = ["python3", "-IB", "/root/held.py", place, "restore", "--to", stamp(moment), "--yes"]
        running = subprocess.Popen(
            [*host.enter(), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        _until(lambda: host.run(["sh", "-c", sign], check=False).returncode == 0 or running.poll() is not None)  # noqa: B023
        assert running.poll() is None, running.communicate()[0]
        if blow == "power cut":
            host.power_cut()
            host.boot(port=None)
        else:
            host.run(["pkill", f"-{blow}", "-f", "/root/held.py"])
        said = running.communicate()[0]
        if blow == "HUP":
            assert "ended by SIGHUP" in said
        _healthy(host)
        assert rows(host) == (written.at(moment) if swapped else written.states[-1]), said
        if swapped:
            written.note(written.at(moment))
        ended = tool(host, "restore", "--to", stamp(written.moments[-1] + PAUSE / 2), "--yes").stdout
        assert ("brought to its end" if swapped else "" if blow == "HUP" else "is removed") in ended, ended
        assert rows(host) == written.states[-1]
        names = host.run(["ls", "/opt/postgres"]).stdout.split()
        assert len([name for name in names if name.startswith("data.before-")]) == (2 if swapped else 1)
        assert not {"data.restoring", "data.failed"} & set(names)
        assert host.run(["docker", "ps", "-a", "--format", "{{.Names}}"]).stdout == "mailserver-postgres\n"
        assert "restore.json" not in host.run(["ls", "/var/lib/mailhost-pg"]).stdout


@pytest.mark.thorough("rare, and takes minutes")
def test_what_does_not_work_is_not_kept(written: Written) -> None:
    """A restored server that refuses everybody: the old one runs again, and its line is the one that counts."""
    host = written.host
    host.put(BROKEN, "/root/broken.py")
    command = ["python3", "-IB", "/root/broken.py", "restore", "--to", stamp(written.moments[-2] + PAUSE / 2), "--yes"]
    done = host.run(command, check=False)
    assert done.returncode == 1
    assert "does not work: " in done.stderr and "what ran before runs again" in done.stderr
    assert rows(host) == written.states[-1]
    assert re.findall("data.*", host.run(["ls", "/opt/postgres"]).stdout)[1].startswith("data.failed-")
    written.note(written.states[-1])
    written.write(1)
    written.restored(written.moments[-1] + PAUSE / 2)
    written.restored(written.moments[1] + PAUSE / 2)


@pytest.mark.thorough("rare, and takes minutes")
def test_a_server_that_crashes_again_and_again(written: Written) -> None:
    """Docker starts it after each crash. A restore that failed and one that was killed do not keep the next from it."""
    host = written.host
    host.put(HELD, "/root/held.py")
    written.write(1)
    wal = sql(host, "select pg_walfile_name(pg_switch_wal())")
    find = ["sh", "-c", f"ls /opt/postgres/wal_archive/mail/*/*/{wal}-*.zst"]
    _until(lambda: host.run(find, check=False).returncode == 0)
    segment = host.run(find).stdout.strip()
    written.write(1)
    # A checksum that is wrong, in a file that begins with the cluster's number.
    _crash(host, f"printf '\\377\\377' | dd of={DATA}/global/pg_control bs=1 seek=40 conv=notrunc")
    assert host.run(["systemctl", "is-active", "mailserver-postgres"]).stdout == "active\n"

    _flip(host, segment)
    said = refused(host, "restore", "--latest", "--yes")
    assert re.search(rf"{wal} (is damaged|cannot be read)", said), said
    assert host.run(["ls", "/var/lib/mailhost-pg"]).stdout.split().count("restore.json") == 0
    command = ["python3", "-IB", "/root/held.py", "recovery.bring", "restore", "--latest", "--yes"]
    running = subprocess.Popen([*host.enter(), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    held = ["test", "-e", "/run/held"]
    _until(lambda: host.run(held, check=False).returncode == 0 or running.poll() is not None)
    assert running.poll() is None, running.communicate()[0]
    host.run(["pkill", "-KILL", "-f", "/root/held.py"])
    running.communicate()
    assert host.run(["ls", "/var/lib/mailhost-pg"]).stdout.split().count("restore.json") == 1

    _flip(host, segment)
    said = tool(host, "restore", "--latest", "--yes").stdout
    assert "mailserver-postgres.service is not up again: " in said and f"and of {DATA}/pg_wal" in said, said
    assert rows(host) == written.states[-1]

    _crash(host, f"mv {DATA}/pg_wal /root/")
    said = tool(host, "restore", "--latest", "--yes").stdout
    assert f"without {DATA}/pg_wal, which cannot be read," in said, said
    assert rows(host) == written.states[-1]


@pytest.mark.thorough("rare, and takes minutes")
def test_a_restore_without_its_backup_is_over_all_the_same(written: Written) -> None:
    """What is left of it is a backup: it is made as soon as it can be, and nobody is disturbed by that."""
    host, moment = written.host, written.moments[-2] + PAUSE / 2
    host.run(["chmod", "500", "/opt/postgres/backups/mail"])
    said = refused(host, "restore", "--to", stamp(moment), "--yes")
    assert "the database runs, but has no new base backup yet: repository 1: " in said
    assert rows(host) == written.at(moment)
    written.note(written.at(moment))
    started, since = "select pg_postmaster_start_time()", json.loads(host.read("/var/lib/mailhost-pg/restore.json"))
    before = sql(host, started)
    assert "repository 1: " in refused(host, "backup")
    host.run(["chmod", "750", "/opt/postgres/backups/mail"])
    assert "new base backup: " in tool(host, "backup").stdout
    assert sql(host, started) == before
    assert "restore.json" not in host.run(["ls", "/var/lib/mailhost-pg"]).stdout
    there = json.loads(host.run(["docker", "exec", "mailserver-postgres", *INFO]).stdout)[0]["backup"]
    noted = [backup["annotation"] for backup in there if "annotation" in backup]
    assert noted == [{"live-since": f"{since['live_since']:.3f}"}]
    written.write(1)
    written.restored(written.moments[-2] + PAUSE / 2)


@pytest.mark.thorough("rare, and takes minutes")
def test_a_new_host(mail_lab: Lab, converged: Host, checkout: Checkout, tmp_path: Path) -> None:
    """From an SFTP server alone: the host is made anew, with a cluster of its own, and gets the one that was lost."""
    _healthy(converged)
    store, offsite = _store(mail_lab, tmp_path)
    checkout.pillar({**checkout.good_pillar(converged), "backup": {"offsite": offsite}})
    run = checkout.apply("backup.ready")
    assert run.returncode == 0, run.result
    sql(converged, f"create table kept as select 42 as n; {DOMAIN}")
    wal = sql(converged, "select pg_walfile_name(pg_switch_wal() - 1)")
    _until(lambda: wal in store.run(["sh", "-c", "ls /srv/chroot/mail-backups/archive/mail/17-1/*"]).stdout)
    old = converged.read(MARKER)

    # All that a new host does not have.
    gone = f"/opt/postgres/data /opt/postgres/wal_archive/mail /opt/postgres/backups/mail {MARKER} /var/lib/mailhost-pg"
    converged.run(["sh", "-euc", f"systemctl stop mailserver-postgres; rm -r {gone}"])
    run = checkout.apply("backup.ready")
    assert "mailhost-pg restore --latest --repository 2" in run.failed["Backups: a base backup"]
    assert converged.read(MARKER) != old
    page = _Page(converged, PAGE.read_text(encoding="utf-8"))
    said = page("--repository 2")
    assert f"cluster {old.strip()} in place of {converged.read(MARKER).strip()}" not in said
    assert f"cluster {old.strip()} in place of " in said
    assert converged.read(MARKER) == old
    assert sql(converged, "select n from kept") == "42"
    run = checkout.apply("backup.ready")
    assert run.returncode == 0, run.result
    assert run.marks["2.1.3"] == "[x]"
    assert not checkout.apply().changed
    for number in ("1", "2"):
        assert "Would restore" in tool(converged, "restore", "--latest", "--repository", number, "--dry-run").stdout


def _crash(host: Host, damage: str) -> None:
    """Damage the data of the running server and end it as a crash does, until it has been started several times."""
    host.run(["sh", "-euc", f"{damage}; kill -9 $({SERVER})"])
    count = ["docker", "inspect", "-f", "{{.RestartCount}}", "mailserver-postgres"]
    _until(lambda: int(host.run(count).stdout) > 3)


class _Page:
    """The commands of a page of operations."""

    def __init__(self, host: Host, text: str) -> None:
        self.host, self.moment = host, ""
        blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.commands = [line for block in blocks for line in block.splitlines()]
        self.left = set(self.commands)

    def __call__(self, part: str) -> str:
        """Run the command that has a part, with this test's own moment, and return what it printed."""
        command = next(line for line in self.commands if part in line)
        self.left.discard(command)
        return self.host.run(["sh", "-euc", command.replace("2026-11-22 14:03:05+00", self.moment)]).stdout


def _store(lab: Lab, place: Path) -> tuple[Host, dict[str, object]]:
    """Return an SFTP server, whose user sees a directory and has no shell, and what the pillar says of it."""
    store = lab.host("store")
    store.boot()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)
    store.run(["sh", "-euc", STORE], input=(place / "key.pub").read_text())
    return store, {
        "type": "sftp",
        "host": store.ipv4,
        "user": "store",
        "private_key": (place / "key").read_text(),
        "host_keys": store.run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).stdout.splitlines(),
        "cipher_pass": "a-passphrase" * 4,
    }


def _flip(host: Host, path: str) -> None:
    """Change one bit in the middle of a file, or change it back."""
    target = host.root / path.lstrip("/")
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 4
    with target.open("r+b") as stream:
        stream.write(content)


def _healthy(host: Host, seconds: float = 180) -> None:
    """Wait until the unit has seen the container healthy."""
    _until(
        lambda: host.run(["systemctl", "is-active", "mailserver-postgres"], check=False).stdout == "active\n", seconds
    )


def _until(true: Callable[[], bool], seconds: float = 180) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)
