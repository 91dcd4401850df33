"""Who guesses at SSH is banned by real failed logins, from Docker's ports too; the VPN and the operator are not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Host, Lab
from labkit.checkout import AIDE_OFF, Checkout
from labkit.lab import Namespace

pytestmark = pytest.mark.lab

WEB = 8080
# What Debian 13 has, and no registry: an image of one static program that serves files.
CONTAINER = f"""
apt-get -qy --no-install-recommends install docker.io docker-cli busybox-static >/dev/null 2>&1
mkdir -p /srv/image
cp /bin/busybox /srv/image/
tar -C /srv/image -c . | docker import - web
docker run -d --restart=always -p 0.0.0.0:{WEB}:80 web /busybox httpd -f -p 80
"""
# OpenSSH refuses sources of failed logins by itself, but lets them connect to be told so. What is tested here is that
# no connection is made at all; and it must not be in the way.
NO_PENALTIES = "echo PerSourcePenalties no >/etc/ssh/sshd_config.d/00-lab.conf; systemctl restart ssh"
CONNECT = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as tried:
    tried.settimeout(2)
    if len(sys.argv) > 3:
        tried.bind((sys.argv[3], 0))
    try:
        tried.connect((sys.argv[1], int(sys.argv[2])))
        print("open")
    except TimeoutError:
        print("no answer")
    except OSError as error:
        print(error.strerror.lower())
"""


class Attacker:
    """Somebody in a namespace who has a key that nobody lets in."""

    def __init__(self, host: Host, namespace: Namespace, key: Path) -> None:
        """Params: host to log in to; namespace to come from; key, the wrong one."""
        self.host, self.namespace, self.key = host, namespace, key

    def addresses(self, version: int) -> tuple[str, str]:
        """Return the addresses of the host and of this namespace."""
        return (self.host.ipv4, self.namespace.ipv4) if version == 4 else (self.host.ipv6, self.namespace.ipv6)

    def tries(self, user: str, version: int = 4, source: str = "") -> str:
        """Log in with the wrong key once, and return what ssh says."""
        there, mine = self.addresses(version)
        words = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
        options = [word for option in [*words, "ConnectTimeout=3"] for word in ("-o", option)]
        argv = ["ssh", "-F", "/dev/null", "-b", source or mine, "-i", str(self.key), *options, f"{user}@{there}"]
        said = self.namespace.run([*argv, "-p", str(port(self.host)), "true"], check=False)
        assert said.returncode == 255
        return said.stderr

    def fails(self, times: int, user: str = "phalkonadmin", version: int = 4, source: str = "") -> None:
        """Fail to log in that many times."""
        for _ in range(times):
            said = self.tries(user, version, source)
            assert "Permission denied" in said, said

    def reaches(self, where: int, version: int = 4, source: str = "") -> str:
        """Return what comes of a connection to a port: open, no answer, or the error."""
        argv = [sys.executable, "-c", CONNECT, self.addresses(version)[0], str(where), *([source] if source else [])]
        return self.namespace.run(argv).stdout.strip()


def port(host: Host) -> int:
    """Return the port sshd answers on to everybody."""
    lines = host.run(["sshd", "-T"]).stdout.splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("port ")))


def banned(host: Host, jail: str = "sshd") -> set[str] | None:
    """Return whom a jail bans, as fail2ban says; None while it does not answer."""
    said = host.run(["fail2ban-client", "get", jail, "banip"], check=False)
    return None if said.returncode else set(said.stdout.split())


def eventually(host: Host, *addresses: str, jail: str = "sshd", seconds: float = 30) -> None:
    """Wait until exactly these addresses are banned."""
    until = time.monotonic() + seconds
    while banned(host, jail) != set(addresses) and time.monotonic() < until:
        time.sleep(0.1)
    assert banned(host, jail) == set(addresses), host.run(["journalctl", "-qt", "fail2ban", "-n", "20"]).stdout


def failures(host: Host) -> int:
    """Return how many failures jail sshd has counted since fail2ban started."""
    status = host.run(["fail2ban-client", "status", "sshd"]).stdout
    return int(status.partition("Total failed:")[2].split()[0])


@pytest.fixture(scope="module")
def built(mail_lab: Lab, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host with fail2ban and what it needs, and a container that publishes a port to everybody."""
    host = mail_lab.host("guarded")
    host.boot()
    with Checkout(tmp_path_factory.mktemp("guarded") / "c", host, _thin) as checkout:
        checkout.pillar({**checkout.good_pillar(host), "hardening": {"disabled": AIDE_OFF}})
        run = checkout.apply("fail2ban.jails")
        assert not run.failed, run.failed
        assert run.marks["1.3.5"] == "[x]", run.result
    host.run(["sh", "-euc", CONTAINER])
    host.run(["sh", "-euc", NO_PENALTIES])
    return host


@pytest.fixture
def guarded(built: Host) -> Host:
    """That host with nobody banned and nothing counted."""
    built.run(["sh", "-euc", "systemctl stop fail2ban; rm -f /var/lib/fail2ban/*; journalctl -q --rotate"])
    built.run(["sh", "-euc", "sleep 1; journalctl -q --vacuum-time=1s; systemctl start fail2ban"])
    eventually(built)
    return built


@pytest.fixture
def operator(guarded: Host, _thin: Path, tmp_path: Path) -> Iterator[Checkout]:
    """A checkout whose roster names that host ``mail``."""
    with Checkout(tmp_path / "c", guarded, _thin) as made:
        yield made


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that nobody lets in."""
    path = tmp_path_factory.mktemp("key") / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def attacker(guarded: Host, mail_lab: Lab, key: Path) -> Attacker:
    """Somebody on the internet."""
    return Attacker(guarded, mail_lab.namespace("outside"), key)


@pytest.fixture
def neighbour(guarded: Host, mail_lab: Lab, key: Path) -> Attacker:
    """Somebody else there."""
    return Attacker(guarded, mail_lab.namespace("neighbour"), key)


@pytest.mark.parametrize("version", [4, 6])
def test_three_failed_logins_are_a_ban_from_every_port(
    guarded: Host, attacker: Attacker, neighbour: Attacker, operator: Checkout, version: int
) -> None:
    mine = attacker.addresses(version)[1]
    # Without its userland proxy Docker 26 publishes by IPv4 only.
    ports = [port(guarded), *([WEB] if version == 4 else [])]

    def reaches(somebody: Attacker) -> set[str]:
        return {somebody.reaches(where, version) for where in ports}

    attacker.fails(2, version=version)
    assert banned(guarded) == set()
    assert reaches(attacker) == {"open"}

    attacker.fails(1, version=version)
    eventually(guarded, mine)
    assert reaches(attacker) == {"no answer"}
    assert attacker.reaches(port(guarded), 10 - version) == "open", "the other IP version is another address"
    assert reaches(neighbour) == {"open"}

    said = operator.salt("mail", "mailhost_fail2ban.unban", mine, "--out=json")
    assert said.data() == {"mail": ["sshd"]}, said
    eventually(guarded)
    assert reaches(attacker) == {"open"}


def test_a_ban_is_not_openssh_s_own_refusal(guarded: Host, attacker: Attacker) -> None:
    """OpenSSH refuses a source too, but lets it connect: without fail2ban the port stays open."""
    penalties = "rm /etc/ssh/sshd_config.d/00-lab.conf; systemctl restart ssh"
    try:
        guarded.run(["sh", "-euc", f"systemctl stop fail2ban; {penalties}"])
        said = [attacker.tries("phalkonadmin") for _ in range(6)]
        assert "Permission denied" in said[0]
        assert "Permission denied" not in said[-1]
        assert "penalty: failed authentication" in guarded.run(["journalctl", "-qt", "sshd", "-n", "5"]).stdout
        assert attacker.reaches(port(guarded)) == "open"
        assert attacker.reaches(WEB) == "open"
    finally:
        guarded.run(["sh", "-euc", f"systemctl start fail2ban; {NO_PENALTIES}"])


@pytest.mark.parametrize("user", ["phalkonadmin", "root", "nobody", "no-such-user"])
def test_one_failed_login_is_one_failure(guarded: Host, attacker: Attacker, user: str) -> None:
    attacker.fails(1, user)
    time.sleep(1)
    assert failures(guarded) == 1, guarded.run(["journalctl", "-qt", "sshd-session", "-n", "9"]).stdout


def test_a_look_whether_the_port_is_open_is_no_failure(guarded: Host, attacker: Attacker) -> None:
    for _ in range(5):
        assert attacker.reaches(port(guarded)) == "open"
    attacker.namespace.run(["ssh-keyscan", "-p", str(port(guarded)), guarded.ipv4])
    time.sleep(1)
    assert failures(guarded) == 0


def test_what_a_user_of_the_host_writes_into_the_journal_bans_nobody(guarded: Host) -> None:
    forged = "Connection closed by authenticating user root 203.0.113.9 port 4711 [preauth]"
    argv = ["setpriv", "--reuid=nobody", "--clear-groups", "logger", "-t", "sshd-session", forged]
    for _ in range(3):
        guarded.run(argv)
    time.sleep(1)
    assert failures(guarded) == 0
    guarded.run(["logger", "-t", "sshd-session", forged])  # root's own counts: the line as such is one that would
    time.sleep(1)
    assert failures(guarded) == 1


def test_bans_outlast_a_restart_and_a_reboot(guarded: Host, attacker: Attacker) -> None:
    mine = attacker.namespace.ipv4
    attacker.fails(3)
    eventually(guarded, mine)
    guarded.run(["systemctl", "restart", "fail2ban"])
    eventually(guarded, mine)
    assert attacker.reaches(WEB) == "no answer"
    guarded.reboot(port=None)
    eventually(guarded, mine)
    assert attacker.reaches(port(guarded)) == "no answer"
    assert attacker.reaches(WEB) == "no answer"


def test_who_is_banned_again_and_again_is_banned_for_long(guarded: Host, attacker: Attacker) -> None:
    mine = attacker.namespace.ipv4
    for _ in range(3):
        attacker.fails(3)
        eventually(guarded, mine)
        guarded.run(["fail2ban-client", "set", "sshd", "unbanip", mine])
    eventually(guarded, mine, jail="recidive")
    assert banned(guarded) == set()
    assert attacker.reaches(WEB) == "no answer"
    ends = guarded.run(["fail2ban-client", "get", "recidive", "banip", "--with-time"]).stdout
    assert "+ 604800 =" in ends


def test_the_second_ban_lasts_twice_as_long(guarded: Host, attacker: Attacker) -> None:
    mine = attacker.namespace.ipv4
    guarded.run(["fail2ban-client", "set", "sshd", "bantime", "5"])
    for seconds in (5, 10):
        attacker.fails(3)
        eventually(guarded, mine)
        ends = guarded.run(["fail2ban-client", "get", "sshd", "banip", "--with-time"]).stdout
        assert f"+ {seconds} =" in ends
        eventually(guarded, seconds=20)
    assert attacker.reaches(port(guarded)) == "open"


def test_the_vpn_is_never_banned(guarded: Host, attacker: Attacker) -> None:
    """An address of the VPN's network, without the tunnel: fail2ban sees only where a login comes from."""
    inside = "10.100.0.77"
    try:
        attacker.namespace.run(["ip", "address", "add", f"{inside}/32", "dev", "lo"])
        guarded.run(["ip", "route", "replace", f"{inside}/32", "via", attacker.namespace.ipv4])
        attacker.fails(8, source=inside)
        time.sleep(1)
        assert banned(guarded) == banned(guarded, "recidive") == set()
        assert attacker.reaches(port(guarded), source=inside) == "open"
        ignored = guarded.run(["fail2ban-client", "get", "sshd", "ignoreip"]).stdout
        assert "10.100.0.0/24" in ignored
    finally:
        attacker.namespace.run(["ip", "address", "del", f"{inside}/32", "dev", "lo"], check=False)
        guarded.run(["ip", "route", "del", f"{inside}/32"], check=False)


def test_who_is_logged_in_is_not_banned_by_failed_logins(guarded: Host, neighbour: Attacker) -> None:
    """The login counts, not a process of it that goes on after the connection is gone."""
    login = [*neighbour.namespace.enter(), *guarded.ssh_command("phalkonadmin", port(guarded)), "sleep 120"]
    with subprocess.Popen(login, stdin=subprocess.DEVNULL) as session:
        try:
            logged_in(guarded, "sleep 120")
            neighbour.fails(4)
            time.sleep(1)
            assert banned(guarded) == set()
        finally:
            session.terminate()
    time.sleep(1)
    assert runs(guarded, "sleep 120")
    neighbour.fails(3)
    eventually(guarded, neighbour.namespace.ipv4)


def logged_in(host: Host, command: str) -> None:
    """Wait until a host runs the command of a login."""
    until = time.monotonic() + 60
    while not runs(host, command):
        assert time.monotonic() < until
        time.sleep(0.1)


def runs(host: Host, command: str) -> bool:
    """Return whether a host runs a command."""
    return command in host.run(["ps", "-eo", "args"]).stdout.splitlines()


def test_a_connection_that_stands_outlives_a_ban(guarded: Host, neighbour: Attacker) -> None:
    login = [*neighbour.namespace.enter(), *guarded.ssh_command("phalkonadmin", port(guarded)), "sleep 5; echo done"]
    with subprocess.Popen(login, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as session:
        logged_in(guarded, "sleep 5")
        guarded.run(["fail2ban-client", "set", "sshd", "banip", neighbour.namespace.ipv4])
        assert neighbour.reaches(port(guarded)) == "no answer"
        assert session.communicate(timeout=20)[0] == "done\n"


def test_the_operators_own_runs_are_no_failures(guarded: Host, mail_lab: Lab, operator: Checkout) -> None:
    """A workstation that has never seen the host, several runs, from an address that nothing spares."""
    workstation = mail_lab.namespace("outside")
    for _ in range(3):
        run = operator.apply("access.sudo", test=True, inside=workstation)
        assert run.returncode == 0, run.result
    assert failures(guarded) == 0
    assert banned(guarded) == set()


def test_a_workstation_with_the_wrong_key_is_banned_and_told_what_happens(
    guarded: Host, mail_lab: Lab, operator: Checkout, key: Path
) -> None:
    operator.roster({"mail": operator.entry(guarded, priv=str(key))})
    workstation = mail_lab.namespace("outside")
    way = f"@{guarded.ipv4}:{port(guarded)} (public)"
    lines: list[str] = []
    while "no answer" not in "".join(lines) and len(lines) < 6:
        said = operator.apply("access.sudo", test=True, inside=workstation).stderr
        lines.append(next(line for line in said.splitlines() if way in line))
    print("\n".join(lines))
    assert "Permission denied" in lines[0]
    assert "no answer" in lines[-1]
    assert workstation.ipv4 in (banned(guarded) or set())
