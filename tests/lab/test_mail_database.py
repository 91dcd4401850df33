"""Debian's Postfix and Dovecot, on a peer of the VPN, live on the mail database with the configurations in docs/."""

from __future__ import annotations

import itertools
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compiled import ROOT
from labkit import Host, Lab
from labkit.checkout import Checkout
from labkit.tools import run

from .conftest import _started

pytestmark = pytest.mark.lab

CONFIGURATIONS = ROOT / "docs/operations/mail_services"
ADDRESS, PEER = "10.100.0.25", "10.100.0.2"
PASSWORD = "correct horse battery"
# Its hash, as htpasswd and others print it.
BCRYPT = "{BLF-CRYPT}$2y$10$zSLGvekl00PIuB8jLVhPFeCvxdGQUbBWIn5LWrlQmx/bFinmAbD1C"
PACKAGES = "postfix postfix-pgsql dovecot-pgsql dovecot-imapd dovecot-lmtpd wireguard-tools"
# What a person does who sets the client up: docs/operations/mail_services/README.md.
SET_UP = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -qy --no-install-recommends {PACKAGES} >/dev/null
systemctl enable -q --now wg-quick@wg0
groupadd -g 5000 vmail
useradd -u 5000 -g vmail -d /var/mail/vmail -s /usr/sbin/nologin vmail
mkdir -p /var/mail/vmail /etc/dovecot/tls
chown vmail: /var/mail/vmail
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mail.example.org \
  -keyout /etc/dovecot/tls/server.key -out /etc/dovecot/tls/server.crt 2>/dev/null
"""
OWN = """
chown postfix: /var/lib/postfix/pgpass
chown dovecot: /var/lib/dovecot/pgpass
systemctl restart postfix dovecot
"""
# Says what an SMTP server answers to a recipient: sys.argv is the recipient and, for a whole message, its subject.
SMTP = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1") as server:
    server.helo("test")
    server.mail("somebody@example.com")
    code, said = server.rcpt(sys.argv[1])
    if len(sys.argv) > 2 and code == 250:
        code, said = server.data(f"Subject: {sys.argv[2]}\\r\\n\\r\\nhello\\r\\n")
print(code, said.decode())
"""
# Logs in as a person's mail program does, by TLS, and prints the subjects of what is there.
IMAP = """
import imaplib, ssl, sys, time
context = ssl.create_default_context(cafile="/etc/dovecot/tls/server.crt")
context.check_hostname = False
with imaplib.IMAP4_SSL("127.0.0.1", ssl_context=context) as box:
    box.login(sys.argv[1], sys.argv[2])
    for _ in range(100):
        box.select("INBOX")
        found = box.search(None, "ALL")[1][0].split()
        if found:
            break
        time.sleep(0.1)
    for number in found:
        print(box.fetch(number, "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0][1].decode().strip())
"""

# What SOGo does: tables of its own, a view of users as its manual asks for (SOGoUserSources of type sql), and a new
# password; then what it has no business with. sys.argv is a user and the new password's hash.
SOGO = """
import os, psycopg, sys
os.environ["PGSERVICEFILE"] = "/opt/mail_server/sogo/database/pg_service.conf"
with psycopg.connect("service=mailserver") as connection:
    connection.execute("CREATE TABLE sogo_folder_info (c_folder_id serial, c_path varchar(255) PRIMARY KEY)")
    connection.execute("INSERT INTO sogo_folder_info (c_path) VALUES ('/Users/ada/Calendar/personal')")
    connection.execute(
        "CREATE VIEW sogo_users AS SELECT email AS c_uid, email AS c_name, password AS c_password, email AS c_cn,"
        " email AS mail FROM mail.virtual_users WHERE active"
    )
    changed = "UPDATE sogo_users SET c_password = %s WHERE c_uid = %s"
    print(connection.execute(changed, [sys.argv[2], sys.argv[1]]).rowcount)
    rows = connection.execute("SELECT c_password FROM sogo_users WHERE c_uid = %s", [sys.argv[1]]).fetchall()
    print(rows == [(sys.argv[2],)])
for statement in (
    "UPDATE sogo_users SET c_uid = 'x'",
    "SELECT quota_bytes FROM mail.virtual_users",
    "DELETE FROM mail.virtual_users",
    "SELECT * FROM mail.virtual_aliases",
    "CREATE TABLE mail.x ()",
):
    try:
        with psycopg.connect("service=mailserver") as connection:
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        print("refused")
with psycopg.connect("service=mailserver") as connection:
    connection.execute("DROP VIEW sogo_users; DROP TABLE sogo_folder_info")
"""


@dataclass
class Stage:
    """The mail host with its database, the peer with its mail servers, and the operator's checkout."""

    lab: Lab
    host: Host
    client: Host
    checkout: Checkout
    sources: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, 255)))

    def tool(self, function: str, *words: str) -> str:
        """Run a function of the user tool and return what it said; it must succeed."""
        result = self.checkout.salt("mail", f"mailhost_mail.{function}", *words)
        assert result.returncode == 0, result
        return result.stdout

    def sql(self, statement: str) -> str:
        """Run a statement as the superuser and return its rows, a line each."""
        script = (
            "import psycopg, sys\n"
            "with psycopg.connect(host='/run/mailserver-postgres', user='postgres', dbname='mailserver') as c:\n"
            "    cursor = c.execute(sys.argv[1])\n"
            "    rows = cursor.fetchall() if cursor.description else []\n"
            "print('\\n'.join('|'.join(map(str, row)) for row in rows))\n"
        )
        return self.host.run(["python3", "-c", script, statement]).stdout.strip()

    def postmap(self, table: str, key: str) -> list[str]:
        """Return what Postfix finds for a key in a table, sorted; [] when it finds nothing."""
        found = self.client.run(["postmap", "-q", key, f"pgsql:/etc/postfix/pgsql/{table}.cf"], check=False)
        assert found.returncode in (0, 1) and not found.stderr, found.stderr
        return sorted(found.stdout.strip().split(",")) if found.stdout else []

    def rcpt(self, *words: str) -> str:
        """Return what Postfix answers to a recipient, or to a message for it with a subject."""
        return self.client.run(["python3", "-c", SMTP, *words]).stdout.strip()

    def auth(self, user: str, password: str) -> int:
        """Return how `doveadm auth test` ends: 0 let in, 77 refused, 75 try later.

        Each time from another address: Dovecot lets an address wait longer after each failure.
        """
        source = f"rip=198.51.100.{next(self.sources)}"
        return self.client.run(["doveadm", "auth", "test", "-x", source, user, password], check=False).returncode


def background(host: Host, argv: list[str]) -> subprocess.Popen[str]:
    """Start a command on a host and return its process."""
    return subprocess.Popen(
        [*host.enter(), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


@pytest.fixture(scope="module")
def stage(
    _converged: Host, mail_lab: Lab, _thin: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:  # fmt: skip
    """All of it, with some domains, users and aliases."""
    host, client = _started(_converged, "converged"), mail_lab.host("client")
    client.boot()
    key = run(["wg", "genkey"]).stdout.strip()
    public = run(["wg", "pubkey"], input=key).stdout.strip()
    server = host.run(["wg", "show", "wg0", "public-key"]).stdout.strip()
    client.put(
        f"[Interface]\nPrivateKey = {key}\nAddress = {PEER}/24\n"
        f"[Peer]\nPublicKey = {server}\nEndpoint = {host.ipv4}:51820\n"
        "AllowedIPs = 10.100.0.0/24\nPersistentKeepalive = 5\n",
        "/etc/wireguard/wg0.conf",
        0o600,
    )
    client.run(["sh", "-euc", SET_UP])
    with Checkout(tmp_path_factory.mktemp("maildb") / "c", host, _thin) as checkout:
        peers = {"client": {"public_key": public, "addresses": [PEER]}}
        checkout.pillar({**checkout.good_pillar(host), "vpn": {"peers": peers}})
        made = checkout.apply("vpn.tunnel", "firewall.rules", "database.proven")
        assert not made.failed, made.failed
        assert (made.marks["2.1.2"], made.marks["2.1.4"]) == ("[x]", "[x]"), made.result
        found = Stage(mail_lab, host, client, checkout)
        _configure(found)
        _fill(found, tmp_path_factory.mktemp("users"))
        yield found
    client.power_cut()


def _configure(stage: Stage) -> None:
    """Put the documented configurations on the client, with the files the host keeps for the services."""
    for path in sorted((CONFIGURATIONS / "postfix").rglob("*.cf")):
        stage.client.put(path.read_text(), f"/etc/postfix/{path.relative_to(CONFIGURATIONS / 'postfix')}")
    stage.client.put((CONFIGURATIONS / "dovecot/dovecot.conf").read_text(), "/etc/dovecot/dovecot.conf")
    authority = stage.host.read("/opt/mail_server/postgres/tls/ca.crt")
    for service in ("postfix", "dovecot"):
        stage.client.put(authority, f"/etc/{service}/pgsql/ca.crt")
        password = stage.host.read(f"/opt/mail_server/{service}/database/pgpass")
        stage.client.put(password, f"/var/lib/{service}/pgpass", 0o600)
    stage.client.run(["sh", "-euc", OWN])


def _fill(stage: Stage, directory: Path) -> None:
    """Add domains, users and aliases with the user tool."""
    (directory / "users.csv").write_text(
        "email,password,quota,comment\n"
        f"Ada@Example.org,{PASSWORD},10M,first\n"
        f"off@example.org,{PASSWORD},,\n"
        f"bob@example.com,{PASSWORD},,\n"
        f"eve@closed.example,{PASSWORD},,\n"
        f"left@example.com,{PASSWORD},,\n"
    )
    # example.com has a catch-all: what is off there must not fall to it.
    (directory / "aliases.csv").write_text(
        "source,destination\n"
        "@example.com,ada@example.org\n"
        "hr@example.com,OFF@example.org\n"
        "named@example.com,off@example.net\n"
        "closed@example.com,eve@closed.example\n"
        "renamed@example.com,ada@old.example\n"
        "chain@example.com,hr@example.com\n"
        "some@example.com,off@example.net\n"
        "some@example.com,ada@example.net\n"
        "round@example.com,about@example.com\n"
        "about@example.com,round@example.com\n"
        "paused@example.com,ada@example.org\n"
        "left@example.com,left@elsewhere.example\n"
        "successor@example.com,left@example.com\n"
    )
    for name in ("example.org", "example.com", "closed.example"):
        stage.tool("domain_add", name)
    said = stage.tool("import_users", str(directory / "users.csv"))
    assert PASSWORD not in said
    stage.tool("alias_domain_add", "example.net", "example.org")
    stage.tool("alias_add", "sales@example.org", "ada@example.org")
    stage.tool("alias_add", "sales@example.org", "Bob.Example@elsewhere.example")
    stage.tool("import_aliases", str(directory / "aliases.csv"))
    stage.tool("alias_add", "former@example.org", "off@example.org")
    stage.tool("user_disable", "off@example.org")
    stage.tool("user_disable", "left@example.com")
    stage.tool("domain_active", "closed.example", "False")
    stage.sql("INSERT INTO mail.virtual_domains (name, alias_of, active) VALUES ('old.example', 'example.org', false)")
    stage.sql("UPDATE mail.virtual_aliases SET active = false WHERE source = 'paused@example.com'")


REFUSED = ["550 5.2.1 Mailbox disabled", " not accepting messages"]
LOOKUPS = [
    ("domains", "example.org", ["example.org"]),
    ("domains", "example.net", ["example.net"]),  # an alias domain
    ("domains", "closed.example", []),
    ("domains", "unknown.example", []),
    ("mailboxes", "ada@example.org", ["ada@example.org"]),
    ("mailboxes", "ADA@Example.ORG", ["ada@example.org"]),
    ("mailboxes", "off@example.org", []),
    ("mailboxes", "eve@closed.example", []),
    ("mailboxes", "x' OR '1'='1", []),
    ("aliases", "sales@example.org", ["Bob.Example@elsewhere.example", "ada@example.org"]),
    ("aliases", "ada@example.org", ["ada@example.org"]),  # itself, or a catch-all would take its mail
    ("aliases", "@example.com", ["ada@example.org"]),
    ("aliases", "@example.org", []),
    ("aliases", "ada@example.net", ["ada@example.org"]),
    ("aliases", "sales@example.net", ["Bob.Example@elsewhere.example", "ada@example.org"]),
    ("aliases", "nobody@example.net", []),  # else it would be taken and bounced
    ("aliases", "former@example.org", []),  # its only destination is off
    ("aliases", "some@example.com", ["ada@example.net"]),  # one of two is off
    ("aliases", "left@example.com", ["left@elsewhere.example"]),  # a mailbox that is off, forwarded
    ("aliases", "successor@example.com", ["left@example.com"]),
    *(
        row
        for name in ("hr", "named", "closed", "renamed", "chain", "round", "paused")
        for row in (("aliases", f"{name}@example.com", []), ("refusals", f"{name.upper()}@example.com", REFUSED))
    ),
    ("refusals", "off@example.org", REFUSED),
    ("refusals", "ada@example.org", []),
    ("refusals", "some@example.com", []),
    ("refusals", "successor@example.com", []),
    ("refusals", "anybody@example.com", []),
    ("refusals", "@example.org", []),
]


@pytest.mark.parametrize(("table", "key", "found"), LOOKUPS, ids=lambda value: value if isinstance(value, str) else "")
def test_postfix_finds_what_is_there_and_nothing_else(stage: Stage, table: str, key: str, found: list[str]) -> None:
    assert stage.postmap(table, key) == sorted(found)


def test_who_may_log_in(stage: Stage) -> None:
    assert stage.auth("ada@example.org", PASSWORD) == 0
    assert stage.auth("ADA@Example.org", PASSWORD) == 0
    assert stage.auth("ada@example.org", PASSWORD + "!") == 77
    assert stage.auth("off@example.org", PASSWORD) == 77
    assert stage.auth("eve@closed.example", PASSWORD) == 77
    assert stage.auth("ada@unknown.example", PASSWORD) == 77
    assert stage.auth("x' OR '1'='1", PASSWORD) == 77


def test_who_gets_mail(stage: Stage) -> None:
    assert stage.rcpt("ada@example.org").startswith("250")
    assert stage.rcpt("sales@example.net").startswith("250")
    assert stage.rcpt("anybody@example.com").startswith("250")
    assert stage.rcpt("nobody@example.org").startswith("550 5.1.1")
    assert stage.rcpt("off@example.org").startswith("550 5.2.1")
    assert stage.rcpt("off@example.net").startswith("550 5.2.1")
    assert stage.rcpt("former@example.org").startswith("550 5.2.1")
    for name in ("hr", "named", "closed", "renamed", "chain", "round", "paused"):
        assert stage.rcpt(f"{name}@example.com").startswith("550 5.2.1"), name
    assert stage.rcpt("some@example.com").startswith("250")
    assert stage.rcpt("eve@closed.example").startswith("554 5.7.1")
    assert stage.rcpt("ada@unknown.example").startswith("554 5.7.1")


def test_a_message_to_an_alias_of_an_alias_domain_is_read_by_imap(stage: Stage) -> None:
    assert stage.rcpt("ADA@example.net", "a letter").startswith("250")
    read = stage.client.run(["python3", "-c", IMAP, "ada@example.org", PASSWORD], timeout=60)
    assert read.stdout.strip() == "Subject: a letter"
    quota = stage.client.run(["doveadm", "-f", "tab", "quota", "get", "-u", "ada@example.org"]).stdout
    assert "\t10240\t" in quota, "10 MiB, in KiB"


def test_passwords_of_the_database_are_nowhere_in_the_output_of_the_mail_servers_tools(stage: Stage) -> None:
    password = stage.host.read("/opt/mail_server/dovecot/database/pgpass").strip().rsplit(":", 1)[1]
    assert password not in stage.client.run(["doveconf", "-n"]).stdout
    other = stage.host.read("/opt/mail_server/postfix/database/pgpass").strip().rsplit(":", 1)[1]
    assert other not in stage.client.run(["postconf", "-n"]).stdout


def test_a_database_that_is_down_is_no_reason_to_bounce(stage: Stage) -> None:
    stage.host.run(["docker", "stop", "mailserver-postgres"])
    try:
        assert stage.rcpt("unknown-while-down@example.org").startswith("451 ")
        assert stage.rcpt("any-while-down@example.com").startswith("451 ")
        assert stage.auth("ada@example.org", PASSWORD) == 75
    finally:
        stage.host.run(["docker", "start", "mailserver-postgres"])
    begun = time.monotonic()
    numbers = itertools.count()  # an smtpd keeps what it was told of an address, failures too, for as long as it lives
    while (
        stage.auth("ada@example.org", PASSWORD) == 75
        or stage.rcpt(f"new{next(numbers)}@example.com").startswith("451")
    ):  # fmt: skip
        assert time.monotonic() < begun + 60
        time.sleep(1)
    print(f"mail servers back {time.monotonic() - begun:.0f} s after the database")
    assert stage.auth("ada@example.org", PASSWORD) == 0
    assert stage.rcpt("sales@example.net").startswith("250")


def test_a_new_password_breaks_nothing_for_who_reads_the_file(stage: Stage) -> None:
    """Logins as the service makes them, one after the other, while the password changes under them."""
    script = """
import psycopg, sys, time
failed, done, until = 0, 0, time.monotonic() + 25
while time.monotonic() < until:
    done += 1
    try:
        psycopg.connect(host="10.100.0.25", dbname="mailserver", user="postfix", sslmode="verify-full",
                        sslrootcert="/opt/mail_server/postgres/tls/ca.crt",
                        passfile="/opt/mail_server/postfix/database/pgpass").close()
    except psycopg.OperationalError as error:
        failed += 1
        print(error, file=sys.stderr)
print(done, failed)
"""
    old = stage.host.read("/opt/mail_server/postfix/database/pgpass")
    begun = background(stage.host, ["python3", "-c", script])
    rotated = [stage.checkout.salt("mail", "mailhost_database.rotate_password", "postfix") for _ in range(2)]
    out, err = begun.communicate(timeout=60)
    done, failed = map(int, out.split())
    print(f"{done} logins while the password changed twice, {failed} refused")
    new = stage.host.read("/opt/mail_server/postfix/database/pgpass")
    assert [result.returncode for result in rotated] == [0, 0], rotated
    assert new != old
    secret = new.strip().rsplit(":", 1)[1]
    assert all(secret not in result.stdout + result.stderr for result in rotated)
    assert done > 100
    assert failed <= 2, err
    _configure(stage)
    assert stage.postmap("domains", "example.org") == ["example.org"]


def test_a_list_with_mistakes_is_refused_whole(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text(
        f"email,password,quota\nnew@example.org,{PASSWORD},1G\nnot an address,short,many\nnew@example.org,{PASSWORD},\n"
    )
    refused = stage.checkout.salt("mail", "mailhost_mail.import_users", str(tmp_path / "users.csv"))
    assert refused.returncode != 0
    for sentence in (
        "line 3: not an address: is not an address such as ada@example.org",
        "line 3: many: is not a size such as 10G or 500M",
        "line 3: the password has not 10 to 72 bytes",
        "line 4: new@example.org is in line 2 too",
        "nothing was written",
    ):
        assert sentence in refused.stdout, refused
    (tmp_path / "users.csv").write_text(
        f"email,password\nnew@example.org,{PASSWORD}\nada@example.org,{PASSWORD}\nx@unknown.example,{PASSWORD}\n"
    )
    refused = stage.checkout.salt("mail", "mailhost_mail.import_users", str(tmp_path / "users.csv"))
    assert refused.returncode != 0
    assert "ada@example.org: is there already" in refused.stdout
    assert "unknown.example: there is no such domain" in refused.stdout
    listed = json.loads(stage.checkout.salt("mail", "mailhost_mail.list", "example.org", "--out=json").stdout)
    assert [user["email"] for user in listed["mail"]["users"]] == ["ada@example.org", "off@example.org"]
    assert "$2" not in str(listed)


def test_a_list_of_aliases_is_taken_whole_or_not_at_all(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "aliases.csv"
    good = "source,destination,comment\ninfo@example.org,ada@example.org,\ninfo@example.org,bob@elsewhere.example,Bob\n"
    for rows, sentences in {
        "x,ada@example.org,\ninfo@example.org,ada@example.org,\n": (
            "line 4: x: is not an address such as ada@example.org",
            "line 5: info@example.org -> ada@example.org is in line 2 too",
        ),
        "sales@example.org,ada@example.org,\n@example.net,ada@example.org,\nx@unknown.example,a@b.example,\n": (
            "sales@example.org -> ada@example.org: is there already",
            "example.net: is another name of a domain, and has no aliases of its own",
            "unknown.example: there is no such domain",
        ),
    }.items():
        path.write_text(good + rows)
        refused = stage.checkout.salt("mail", "mailhost_mail.import_aliases", str(path))
        assert refused.returncode != 0
        for sentence in (*sentences, "nothing was written"):
            assert sentence in refused.stdout, refused
        assert stage.postmap("aliases", "info@example.org") == []
    path.write_text(good)
    stage.tool("import_aliases", str(path))
    assert stage.postmap("aliases", "info@example.org") == ["ada@example.org", "bob@elsewhere.example"]


def test_a_password_is_in_no_argument_list_and_no_file_that_others_can_read(stage: Stage, tmp_path: Path) -> None:
    secret = "swordfish-swordfish-42"
    (tmp_path / "password").write_text(secret + "\n")
    # Reads every argument list of the host, over and over, for the secret and its base64 in any alignment.
    watcher = """
import base64, glob, sys, time
secret = sys.argv[1][::-1].encode()
needles = [secret, *(base64.b64encode(b"." * n + secret)[4:20] for n in range(3))]
until, seen, looks = time.monotonic() + float(sys.argv[2]), set(), 0
while time.monotonic() < until:
    looks += 1
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            line = open(path, "rb").read()
        except OSError:
            continue
        if any(needle in line for needle in needles):
            seen.add(line)
    time.sleep(0.01)
print(looks, len(seen))
"""
    watching = background(stage.host, ["python3", "-c", watcher, secret[::-1], "9"])
    said = stage.tool("user_add", "carol@example.org", f"password_file={tmp_path / 'password'}")
    looks, seen = map(int, watching.communicate(timeout=60)[0].split())
    assert looks > 50
    assert seen == 0
    assert secret not in said
    assert stage.auth("carol@example.org", secret) == 0
    found = stage.host.run(
        ["grep", "-rlF", secret, "/run", "/var", "/tmp", "/etc", "/root", "/opt"], check=False
    ).stdout
    assert found == ""
    stage.tool("set_password", "carol@example.org", "generate=True")
    assert stage.auth("carol@example.org", secret) == 77
    made = stage.host.run(["stat", "-c", "%a %U", "/root/mail-passwords/carol@example.org"]).stdout.strip()
    assert made == "600 root"
    assert stage.auth("carol@example.org", stage.host.read("/root/mail-passwords/carol@example.org").strip()) == 0
    stage.tool("user_remove", "carol@example.org")


def test_a_password_is_asked_for_on_the_terminal(stage: Stage) -> None:
    """As a person types it: twice, and it is not shown."""
    words = stage.checkout.command("mail", "mailhost_mail.set_password", "ada@example.org")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(stage.checkout.directory)
        os.execve(words[0], words, stage.checkout.environment())
    shown, answers, until = b"", [b"password of ada@example.org: ", b"again: "], time.monotonic() + 120
    while time.monotonic() < until and select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if answers and shown.endswith(answers[0]):
            answers.pop(0)
            os.write(terminal, b"typed-on-a-terminal\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert answers == []
    assert b"ada@example.org: has a new password" in shown
    assert b"typed-on-a-terminal" not in shown
    assert stage.auth("ada@example.org", "typed-on-a-terminal") == 0
    # Without a terminal it says what else there is.
    refused = stage.checkout.salt("mail", "mailhost_mail.set_password", "ada@example.org")
    assert refused.returncode != 0
    assert "say password_file=FILE, hash_file=FILE or generate=True" in refused.stdout
    stage.sql(f"UPDATE mail.virtual_users SET password = '{BCRYPT}' WHERE email = 'ada@example.org'")
    assert stage.auth("ada@example.org", PASSWORD) == 0


def test_the_database_verifies_what_the_tool_hashed_and_says_what_it_cannot(stage: Stage) -> None:
    def verified(email: str, password: str) -> str:
        return stage.sql(f"SELECT mail.verify_password('{email}', '{password}')")

    assert verified("ada@example.org", PASSWORD) == "True"
    assert verified("ADA@example.org", PASSWORD) == "True"
    assert verified("ada@example.org", PASSWORD + "!") == "False"
    assert verified("off@example.org", PASSWORD) == "False"
    assert verified("nobody@example.org", PASSWORD) == "False"
    crypt = stage.client.run(["doveadm", "pw", "-s", "SHA512-CRYPT", "-p", PASSWORD]).stdout.strip()
    stage.sql(f"UPDATE mail.virtual_users SET password = '{crypt}' WHERE email = 'bob@example.com'")
    assert stage.auth("bob@example.com", PASSWORD) == 0
    said = stage.host.run(
        ["python3", "-c", "import psycopg; psycopg.connect(host='/run/mailserver-postgres', user='postgres',"
         " dbname='mailserver').execute(\"SELECT mail.verify_password('bob@example.com', 'x')\")"],
        check=False,
    )  # fmt: skip
    assert "this server cannot verify SHA512-CRYPT" in said.stderr
    argon = stage.client.run(["doveadm", "pw", "-s", "ARGON2ID", "-p", PASSWORD]).stdout.strip()
    stage.sql(f"UPDATE mail.virtual_users SET password = '{argon}' WHERE email = 'bob@example.com'")
    assert stage.auth("bob@example.com", PASSWORD) == 0


TAMPERED = (
    "ALTER ROLE postfix CREATEDB CONNECTION LIMIT 7",
    "ALTER ROLE postfix SET statement_timeout = '1h'",
    "ALTER ROLE dovecot IN DATABASE mailserver SET work_mem = '1GB'",
    "ALTER ROLE dovecot PASSWORD 'of-somebody-else'",
    "GRANT pg_read_all_data TO postfix",
    "CREATE ROLE mallory LOGIN",
    "GRANT SELECT ON mail.virtual_users TO mallory",
    "GRANT mailserver_owner TO mallory",
    "GRANT SELECT (password) ON mail.virtual_users TO postfix",
    "REVOKE EXECUTE ON FUNCTION mail.alias_destinations(text) FROM postfix",
    "GRANT ALL ON DATABASE mailserver TO PUBLIC",
    "GRANT USAGE ON SCHEMA mail TO sogo WITH GRANT OPTION",
    "GRANT ALL ON mail.virtual_users TO sogo",
    "ALTER TABLE mail.virtual_aliases OWNER TO sogo",
    "ALTER TABLE backup.heartbeat OWNER TO sogo",
    "GRANT INSERT ON backup.heartbeat TO postfix",
    "ALTER ROLE mailadmin VALID UNTIL '2020-01-01'",
    "ALTER ROLE mailserver_owner LOGIN PASSWORD 'x'",
)


def test_what_was_tampered_with_is_predicted_and_put_right(stage: Stage) -> None:
    for statement in TAMPERED:
        stage.sql(statement)
    stage.host.run(["chmod", "644", "/opt/mail_server/sogo/database/pgpass"])
    stage.host.run(["rm", "/opt/mail_server/mailadmin/database/pgpass"])
    predicted = stage.checkout.apply("database.proven", test=True)
    assert predicted.marks["2.1.2"] == "[ ]"
    made = stage.checkout.apply("database.proven")
    assert not made.failed, made.failed
    assert predicted.changed == made.changed
    assert stage.checkout.apply("database.proven").changed == {}
    roles = made.changed["Database roles"]
    assert roles["dovecot: password"] == {
        "old": "another one",
        "new": "that of /opt/mail_server/dovecot/database/pgpass",
    }
    assert set(made.changed) == {
        "Services have files to connect with",
        "Database roles",
        "Database mailserver",
        "Database rights",
    }
    assert stage.auth("ada@example.org", PASSWORD) == 0
    assert stage.postmap("aliases", "ada@example.org") == ["ada@example.org"]


@pytest.mark.thorough("what a quicker test shows in part")
def test_migrations_are_applied_once_and_never_changed(stage: Stage) -> None:
    directory = stage.checkout.directory / "salt/database/migrations"
    registry = stage.checkout.directory / "_utils/mailhost_database.py"
    first = directory / "0001_tables.sql"
    whole, names = first.read_text(), registry.read_text()

    first.write_text(whole + "-- changed\n")
    refused = stage.checkout.apply("database.schema", test=True)
    assert "0001_tables: has been changed since it was applied" in refused.failed["Database schema"]
    first.write_text(whole)

    registry.write_text(names.replace('"0005_destinations")', '"0005_destinations", "0006_extra")'))
    (directory / "0006_extra.sql").write_text("CREATE TABLE mail.extra (id integer); SELECT 1/0;")
    failed = stage.checkout.apply("database.schema")
    assert "0006_extra: division by zero; nothing of it was kept" in failed.failed["Database schema"]
    assert stage.sql("SELECT to_regclass('mail.extra')") == "None"

    (directory / "0006_extra.sql").write_text("CREATE TABLE mail.extra (id integer);")
    predicted = stage.checkout.apply("database.schema", test=True)
    made = stage.checkout.apply("database.schema")
    assert predicted.changed == made.changed == {"Database schema": {"0006_extra": {"old": None, "new": "applied"}}}

    (directory / "0006_extra.sql").unlink()
    registry.write_text(names)
    older = stage.checkout.apply("database.schema")
    assert "0006_extra: is applied in the database and not in this tree" in older.failed["Database schema"]
    stage.sql("DROP TABLE mail.extra; DELETE FROM mail.schema_migrations WHERE name = '0006_extra'")
    assert stage.checkout.apply("database.proven").changed == {}


def test_sogo_has_its_own_tables_and_users_change_their_passwords_by_it(stage: Stage) -> None:
    said = stage.host.run(["python3", "-c", SOGO, "ada@example.org", BCRYPT]).stdout.split()
    assert said == ["1", "True", *["refused"] * 5]
    assert stage.auth("ada@example.org", PASSWORD) == 0
    assert stage.checkout.tracker()["2.1.2"][0] == "[x]"


def test_the_report_says_what_was_tried(stage: Stage) -> None:
    result = stage.checkout.salt("mail", "mailhost_database.verify")
    assert result.returncode == 0, result
    assert "[x] the superuser is refused over TCP: no pg_hba.conf entry" in result.stdout
    assert "[x] WAL archiving advances: no segment waits for the archive" in result.stdout
    assert stage.host.read("/opt/mail_server/postgres/verification.txt").strip() == result.stdout.strip()
    stage.sql("GRANT SELECT ON mail.virtual_users TO postfix")
    try:
        wrong = stage.checkout.salt("mail", "mailhost_database.verify")
        assert wrong.returncode != 0
        assert "[!] postfix cannot read passwords: it is let do it" in wrong.stdout
    finally:
        stage.sql("REVOKE SELECT ON mail.virtual_users FROM postfix")
    assert stage.checkout.apply("database.schema").failed == {}


def test_strangers_do_not_reach_it(stage: Stage) -> None:
    """From the public side, also who routes the VPN's address here."""
    probe = "import socket,sys; s=socket.create_connection((sys.argv[1], 5432), 2)"
    outside = stage.lab.namespace("outside")
    for address in (stage.host.ipv4, stage.host.ipv6):
        assert outside.run(["python3", "-c", probe, address], check=False).returncode != 0
    outside.run(["ip", "route", "add", ADDRESS, "via", stage.host.ipv4])
    assert outside.run(["python3", "-c", probe, ADDRESS], check=False).returncode != 0
    assert stage.client.run(["python3", "-c", probe, ADDRESS], check=False).returncode == 0
