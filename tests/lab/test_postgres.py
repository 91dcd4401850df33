"""PostgreSQL in its container: exact, by TLS and from the VPN only, and nothing makes it start with another's data."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from labkit import Host, image
from labkit.checkout import PROJECT as TREE
from labkit.checkout import Checkout, Run

from .conftest import PSQL, SERVER, Exact
from .tampering import Tamper, changes, each

pytestmark = pytest.mark.lab

SLS = "postgres.container"
RUNS = "PostgreSQL runs"
PROJECT = "/opt/mail_server/postgres"
HBA = f"{PROJECT}/conf/pg_hba.conf"
RELOAD = f"kill -HUP $({SERVER})"
TABLE = f'{PSQL} -c "create table kept as select 42 as n"'


TAMPERS = [
    Tamper("unit off, image and container removed",
           "systemctl disable --now mailserver-postgres; docker rm -f mailserver-postgres;"
           "docker rmi postgres:17-trixie",
           ("PostgreSQL: its image is here: image", f"{RUNS}: container", f"{RUNS}: enabled")),
    Tamper("everybody let in, and the key for everybody",
           f"echo host all all all trust >>{HBA}; {RELOAD}; chmod 644 {PROJECT}/tls/server.key;"
           f"chown root {PROJECT}/tls/server.key",
           ("PostgreSQL: its settings: pg_hba.conf: content", "PostgreSQL: its certificate: key",
            f"{RUNS}: reloaded")),
    Tamper("settings, and authority lost",
           f"cd {PROJECT}; sed -i s/max_connections.*/max_connections=50/ conf/postgresql.conf; rm -r ca",
           ("PostgreSQL: its settings: postgresql.conf: content", f"PostgreSQL: directories: {PROJECT}/ca",
            "PostgreSQL: its certificate: ca", "PostgreSQL: its certificate: certificate", f"{RUNS}: restarted")),
]  # fmt: skip


@pytest.mark.shown_by("unit-off,-image-and-container-removed")
@each(TAMPERS)
def test_tampered_host(converged: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    _healthy(converged)
    converged.run(["sh", "-euc", f"{TABLE}; {tamper.script}"])
    found = exact(f"postgres: {tamper.id}", converged, checkout, SLS)
    assert changes(found.real) == set(tamper.expected)
    assert found.again.marks["2.1.1"] == "[x]"
    assert _sql(converged, "select n from kept") == "42"


@pytest.mark.shown_by("rm -r /opt/postgres/data/*-is empty, and this host made cluster")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 16 >/opt/postgres/data/PG_VERSION", "is of PostgreSQL 16, and postgres.image"),
        (f"echo 1 >{PROJECT}/cluster", "this host made 1: to have it started"),
        (f"rm {PROJECT}/cluster", "this host did not make it"),
        ("rm -r /opt/postgres/data/*", "is empty, and this host made cluster"),
        ("rm -r /opt/postgres/data/*; touch /opt/postgres/data/notes", "has notes and is no cluster"),
    ],
)
def test_another_s_data_is_refused_and_stays(converged: Host, checkout: Checkout, script: str, words: str) -> None:
    converged.run(["sh", "-euc", f"systemctl stop mailserver-postgres; {script}"])
    look = ["find", "/opt/postgres/data", "-printf", "%p %U %m %T@ %s\n"]
    before = converged.run(look).stdout
    for test in (True, False):
        run = checkout.apply(SLS, test=test)
        assert words in run.failed["PostgreSQL: a cluster of this host's own"]
        assert RUNS not in run.changed
    assert converged.run(look).stdout == before


def test_rules_are_read_again_without_a_restart(converged: Host, checkout: Checkout) -> None:
    _healthy(converged)
    started = _sql(converged, "select pg_postmaster_start_time()")
    converged.run(["sh", "-euc", f"echo host all all all trust >>{HBA}; {RELOAD}"])
    assert not checkout.apply(SLS).failed
    assert _sql(converged, "select pg_postmaster_start_time()") == started
    assert _sql(converged, "select count(*) from pg_hba_file_rules where auth_method = 'trust'") == "0"


def test_the_superuser_comes_in_as_root_on_the_host_only(converged: Host) -> None:
    _healthy(converged)
    converged.run(["sh", "-euc", "apt-get -qqy --no-install-recommends install postgresql-client-17 >/dev/null 2>&1"])
    local = ["psql", "-XAtw", "-h", "/run/mailserver-postgres", "-U", "postgres", "-c", "select current_user"]
    assert converged.run(local).stdout == "postgres\n"
    assert (
        "Permission denied"
        in converged.run(["setpriv", "--reuid=nobody", "--clear-groups", *local], check=False).stderr
    )
    for mode, user, words in (
        ("require", "postgres", "no pg_hba.conf entry"),
        ("disable", "postfix", "no pg_hba.conf entry"),
        ("verify-full", "postfix", "password authentication failed"),
    ):
        place = f"host=10.100.0.25 dbname=mailserver sslmode={mode} sslrootcert={PROJECT}/tls/ca.crt"
        told = converged.run(["psql", "-XAt", f"{place} user={user} password=x", "-c", "select 1"], check=False)
        assert words in told.stderr, told.stderr


def test_the_container_can_do_little(converged: Host) -> None:
    found = json.loads(converged.run(["docker", "inspect", "mailserver-postgres"]).stdout)[0]
    limits, config = found["HostConfig"], found["Config"]
    assert limits["CapDrop"] == ["ALL"]
    assert limits["ReadonlyRootfs"]
    assert limits["SecurityOpt"] == ["no-new-privileges:true"]
    assert config["User"] == "999:999"
    assert not limits["Privileged"]
    # No secret is in its environment, for there is none: the superuser has no password.
    assert {entry.partition("=")[0] for entry in config["Env"]} == {"PATH", "LANG", "PG_MAJOR", "PG_VERSION", "PGDATA"}
    written = {mount["Destination"] for mount in found["Mounts"] if mount["RW"]}
    own = {"/var/lib/pgbackrest/archive", "/var/lib/pgbackrest/backup", "/run/mailserver-postgres"}
    assert written == {"/var/lib/postgresql/data", *own}
    assert _sql(converged, "select rolpassword is null from pg_authid where rolname = 'postgres'") == "t"


@pytest.mark.thorough("rare, and takes minutes")
def test_a_given_certificate_and_ipv6(converged: Host, checkout: Checkout, exact: Exact, tmp_path: Path) -> None:
    """Another authority's, for a host that has an IPv6 address in the VPN too; with another's key it is refused."""
    _healthy(converged)
    tls = _certificate(tmp_path, "IP:10.100.0.25,IP:fd00:100::25")
    pillar = {**checkout.good_pillar(converged), "vpn": {"address6": "fd00:100::25/64"}}
    checkout.pillar({**pillar, "postgres": {"tls": {**tls, "key": _certificate(tmp_path, "IP:10.0.0.1")["key"]}}})
    said = checkout.apply(SLS).failed["PostgreSQL: its certificate"]
    assert said == "postgres.tls: certificate and key: key values mismatch"
    checkout.pillar({**pillar, "postgres": {"tls": _certificate(tmp_path, "IP:10.0.0.1")}})
    for test in (True, False):
        run = checkout.apply(SLS, test=test)
        assert "is not valid for '10.100.0.25'" in run.failed["PostgreSQL: its certificate"]
        assert not run.changed

    checkout.pillar({**pillar, "postgres": {"tls": tls}})
    found = exact("postgres: given certificate, IPv6", converged, checkout, SLS)
    assert set(found.real.changed["PostgreSQL: its certificate"]) == {"ca", "certificate", "key"}
    assert "PRIVATE" not in found.dry.result.stdout + found.real.result.stdout
    assert "[fd00:100::25]:5432" in converged.run(["ss", "-Hltn"]).stdout
    assert "fd00:100::/64" in converged.read(HBA)
    shown = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", f"{PROJECT}/tls/server.crt"]
    assert "10.100.0.25" in converged.run(shown).stdout

    checkout.pillar(pillar)
    run = checkout.apply(SLS)
    assert set(run.changed["PostgreSQL: its certificate"]) == {"certificate"}
    assert converged.read(f"{PROJECT}/tls/ca.crt") == converged.read(f"{PROJECT}/ca/ca.crt") != tls["ca"]


def test_it_comes_up_without_the_vpn_and_ends_cleanly(converged: Host, checkout: Checkout) -> None:
    """A boot in which the tunnel never comes, then a power cut."""
    _healthy(converged)
    converged.run(["sh", "-euc", f"{TABLE}; systemctl mask wg-quick@wg0"])
    since = converged.run(["date", "-Is"]).stdout.strip()
    converged.reboot(port=None)
    _healthy(converged)
    assert "10.100.0.25" not in converged.run(["ip", "address"]).stdout
    assert "10.100.0.25:5432" in converged.run(["ss", "-Hltn"]).stdout
    printed = converged.run(["sh", "-c", f"docker logs --since {since} mailserver-postgres 2>&1"]).stdout
    assert "received fast shutdown request" in printed
    assert "was not properly shut down" not in printed
    converged.power_cut()
    converged.boot(port=None)
    _healthy(converged)
    assert _sql(converged, "select n from kept") == "42"


@pytest.mark.thorough("rare, and takes minutes")
def test_another_minor_version_comes_in_and_one_that_does_not_start_goes_back(
    converged: Host, checkout: Checkout, exact: Exact
) -> None:
    _healthy(converged)
    commit = "docker commit -c 'ENV PG_VERSION={0}' {1} $(docker create postgres:17-trixie) postgres:{0}-trixie"
    converged.run(["sh", "-euc", f"{TABLE}; {commit.format('17.98', '')}"])
    converged.run(["sh", "-euc", commit.format("17.99", """-c 'ENTRYPOINT ["/bin/false"]'""")])
    checkout.pillar({**checkout.good_pillar(converged), "postgres": {"image": "postgres:17.98-trixie"}})
    found = exact("postgres: a minor version", converged, checkout, SLS)
    assert {"PostgreSQL: its image has pgBackRest", "PostgreSQL: its Compose file", RUNS} == set(found.real.changed)
    now = converged.run(["docker", "inspect", "-f", "{{.Config.Image}}", "mailserver-postgres"]).stdout
    assert now.startswith("mailserver-postgres:17.98-trixie-")

    checkout.pillar({**checkout.good_pillar(converged), "postgres": {"image": "postgres:17.99-trixie"}})
    run = checkout.apply(SLS)
    assert "what ran before runs again" in run.failed[RUNS]
    assert _sql(converged, "select n from kept") == "42"
    assert converged.run(["docker", "inspect", "-f", "{{.Config.Image}}", "mailserver-postgres"]).stdout == now


@pytest.mark.thorough("rare, and takes minutes")
def test_a_tag_that_moves_to_a_broken_image_and_to_another_major_version(converged: Host, checkout: Checkout) -> None:
    """What ``docker pull`` does to the declared name: the one before runs, at the next boot too."""
    _healthy(converged)
    look = ["docker", "inspect", "-f", "{{.Image}}", "mailserver-postgres"]
    before = converged.run(look).stdout
    commit = "docker commit {} $(docker create postgres:17-trixie) postgres:17-trixie"
    broken = commit.format("""-c 'ENTRYPOINT ["/bin/false"]'""")
    converged.run(["sh", "-euc", f"{TABLE}; docker tag postgres:17-trixie real; {broken}"])
    run = checkout.apply(SLS)
    assert "what ran before runs again" in run.failed[RUNS]
    assert converged.run(look).stdout == before
    assert _sql(converged, "select n from kept") == "42"

    newer = commit.format("-c 'ENV PG_MAJOR=18'")
    converged.run(["sh", "-euc", f"docker tag real postgres:17-trixie; {newer}"])
    for test in (True, False):
        run = checkout.apply(SLS, test=test)
        assert "postgres.image (postgres:17-trixie) is 18" in run.failed["PostgreSQL: a cluster of this host's own"]
        assert not run.changed
    converged.run(["systemctl", "restart", "mailserver-postgres"])
    assert converged.run(look).stdout == before


# What services ask, as themselves: by TLS, with the password and the authority of their own files.
LOOKUPS = {
    "postfix": "select * from alias_destinations('post@example.org')",
    "dovecot": "select email, quota_bytes from user_mailbox_info",
    "mailadmin": "select verify_password('ada@example.org', 'correct horse')",
}
# Of an old server: a new one begins with transactions that have their heartbeats already.
ROWS = """
INSERT INTO mail.virtual_domains (name) VALUES ('example.org'), ('example.net');
INSERT INTO mail.virtual_domains (name, alias_of) VALUES ('example.com', 'example.org');
INSERT INTO mail.virtual_users (email, password, quota_bytes)
    VALUES ('ada@example.org', '{BLF-CRYPT}' || crypto.crypt('correct horse', crypto.gen_salt('bf', 10)), 1000000);
INSERT INTO mail.virtual_aliases (source, destination)
    VALUES ('post@example.org', 'ada@example.org'), ('@example.org', 'Ärger@example.net');
CREATE TABLE sogo.kept AS SELECT 42 AS n, 'naïve' AS word;
CREATE ROLE eve LOGIN PASSWORD 'secret';
DO $$ BEGIN FOR n IN 1..3000 LOOP INSERT INTO backup.heartbeat (source) VALUES ('check'); COMMIT; END LOOP; END $$;
"""


@pytest.mark.thorough("rare, and takes minutes")
def test_a_major_version_is_made_as_the_page_says(converged: Host, checkout: Checkout) -> None:
    """The page's own commands, from 15 to 17: first with a dump that does not go in, and back; then to its end."""
    page = (TREE / "docs/operations/upgrade.md").read_text(encoding="utf-8")
    dump, put_aside, load, go_back = (["sh", "-euc", block.partition("```")[0]] for block in page.split("```sh\n")[1:])
    newer = checkout.good_pillar(converged)
    older = {**newer, "postgres": {"image": image.OLDER.name, "image_archive": "/srv/images/older.tar"}}
    shutil.copyfile(image.archive(image.OLDER), converged.root / "srv/images/older.tar")
    converged.run(["sh", "-euc", "systemctl stop mailserver-postgres; cd /opt/postgres; rm -r data/* wal_archive/* "
                   f"backups/* {PROJECT}/cluster {PROJECT}/last-good /var/lib/mailhost-pg/*"])  # fmt: skip
    checkout.pillar(older)
    _all_done(checkout.apply())
    assert _sql(converged, "show server_version_num").startswith("15")
    converged.run(["sh", "-euc", f"{PSQL} -d mailserver"], input=ROWS)
    before = _contents(converged)
    moment = converged.run(["date", "-u", "+%F %T.%N+00"]).stdout.strip()
    assert list(before["lookups"].values()) == ["ada@example.org", "ada@example.org 1000000", "True"]

    checkout.pillar(newer)
    look = ["find", "/opt/postgres/data/base", PROJECT, "/etc/mailhost-pg.json", "-printf", "%p %U %m %T@ %s\n"]
    converged.run(["sh", "-euc", f"{PSQL} -c checkpoint"])
    there = converged.run(look).stdout
    said = checkout.apply(SLS).failed
    assert "docs/operations/upgrade.md" in said["PostgreSQL: a cluster of this host's own"]
    assert converged.run(look).stdout == there

    def new_cluster() -> None:
        assert "PostgreSQL database cluster dump complete" in converged.run(dump).stdout
        converged.run(put_aside)
        assert not checkout.apply(SLS).failed
        assert _sql(converged, "show server_version_num").startswith("17")

    new_cluster()
    converged.run(["sh", "-euc", "echo 'select 1 / 0;' >>/root/before.sql"])
    assert "division by zero" in converged.run(load, check=False).stderr
    converged.run(go_back)
    checkout.pillar(older)
    back = checkout.apply()
    _all_done(back)
    assert back.changed["Backups: a base backup"]
    assert _contents(converged) == before
    # What the old cluster archived before the step and after it lies in two places.
    converged.run(["mailhost-pg", "export", "--to", moment, "--table", "mail.virtual_users", "--output", "/root/rows"])
    assert "ada@example.org" in converged.read("/root/rows")

    checkout.pillar(newer)
    new_cluster()
    converged.run(load)
    assert _contents(converged) == before
    assert converged.run(["cat", "/opt/postgres/data.before/PG_VERSION"]).stdout == "15\n"
    finished = checkout.apply()
    _all_done(finished)
    assert set(finished.changed) == {
        "Backups: the tool's settings", "Backups: a base backup", "Backups: a restore drill",
        "Database: what was tried is reported",
    }  # fmt: skip
    assert finished.changed["Backups: a restore drill"] == {"repository 1": {"old": "no drill yet", "new": "passed"}}
    assert not checkout.apply().changed
    converged.run(["mailhost-pg", "verify"])
    info = ["docker", "exec", "mailserver-postgres", "pgbackrest", "info", "--output=json"]
    kept = json.loads(converged.run(info).stdout)
    versions = {row["id"]: row["version"] for row in kept[0]["db"]}
    assert [versions[row["database"]["id"]] for row in kept[0]["backup"]] == ["15", "15", "17"]


def _all_done(run: Run) -> None:
    assert not run.failed
    assert {run.marks[task] for task in ("2.1.1", "2.1.2", "2.1.3", "2.1.4")} == {"[x]"}, run.marks


def _contents(host: Host) -> dict[str, Any]:
    """Return all rows of the mail database but heartbeats, the roles' passwords, and what services are answered."""
    shell = "docker exec mailserver-postgres pg_dump -U postgres -h /var/run/postgresql --data-only --inserts"
    rows = host.run(["sh", "-euc", f"{shell} -T backup.heartbeat mailserver | grep ^INSERT"]).stdout
    ask = "import os, psycopg; print(*psycopg.connect('service=mailserver').execute(os.environ['ASK']).fetchone())"
    asked = {
        role: host.run(["env", f"PGSERVICEFILE=/opt/mail_server/{role}/database/pg_service.conf", f"ASK={query}",
                        "python3", "-c", ask]).stdout.strip()
        for role, query in LOOKUPS.items()
    }  # fmt: skip
    passwords = _sql(host, "select rolname, rolpassword from pg_authid where rolpassword is not null order by 1")
    return {"rows": sorted(rows.splitlines()), "passwords": passwords, "lookups": asked}


def _certificate(place: Path, names: str) -> dict[str, str]:
    """Return a certificate for some names that is its own authority, with its key."""
    new = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-days",
        "9",
    ]
    subprocess.run(
        [*new, "-subj", "/CN=x", "-addext", f"subjectAltName={names}", "-keyout", place / "key", "-out", place / "crt"],
        check=True,
        capture_output=True,
    )
    crt = (place / "crt").read_text(encoding="utf-8")
    return {"ca": crt, "certificate": crt, "key": (place / "key").read_text(encoding="utf-8")}


def _sql(host: Host, query: str) -> str:
    return host.run(["sh", "-euc", f'{PSQL} -c "{query}"']).stdout.strip()


def _healthy(host: Host, seconds: float = 60) -> None:
    """Wait until the unit has seen the container healthy."""
    until = time.monotonic() + seconds
    while host.run(["systemctl", "is-active", "mailserver-postgres"], check=False).stdout != "active\n":
        assert time.monotonic() < until, host.run(["docker", "ps", "-a"]).stdout
        time.sleep(0.2)
