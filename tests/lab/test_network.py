"""Names and resolvers on real hosts: exact dry runs, and lookups that no dead resolver, lease or reboot takes away."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import Host, Lab, Namespace
from labkit.checkout import QUICK, Checkout
from labkit.tools import require_programs

from .conftest import Exact, _kept, _started, own_resolvers

pytestmark = pytest.mark.lab

RENEWED_SECONDS = 15
PEER = {"public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "addresses": ["10.100.0.2"]}
TAMPERS = {
    "names and resolvers changed": (
        "hostname other; echo other >/etc/hostname; sed -i '/mail/d' /etc/hosts;"
        "echo nameserver 192.0.2.1 >/etc/resolv.conf"
    ),
    "resolvers a dangling link": "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
}
# Answers every question for an address with one, or with the code that its argument is.
SERVER = """
import socket, struct, sys
code = int(sys.argv[1])
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", 53))
print("ready", flush=True)
while True:
    asked, client = sock.recvfrom(512)
    question = asked[12 : asked.index(b"\\0", 12) + 5]
    kind = question[-3]
    answer = b"\\xc0\\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 192, 0, 2, 80) if kind == 1 and not code else b""
    sock.sendto(asked[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, bool(answer), 0, 0) + question + answer, client)
"""
LEASES = """
auto lo
iface lo inet loopback
auto enp1s0
iface enp1s0 inet dhcp
"""
MANAGED = """
[connection]
id=uplink
type=ethernet
interface-name=enp1s0
[ipv4]
method=auto
"""
IFUP = f"cat >/etc/network/interfaces <<'END'{LEASES}END\nifup enp1s0"
NMCLI = (
    f"cd /etc/NetworkManager/system-connections; (umask 077; cat >uplink.nmconnection <<'END'{MANAGED}END\n);"
    "nmcli connection reload; nmcli connection up uplink"
)
# What brings resolvers of its own: the packages it needs, and how it takes a lease.
WRITERS = {
    "systemd-resolved": (["systemd-resolved"], "systemctl restart systemd-resolved; resolvectl dns enp1s0 192.0.2.66"),
    "dhcpcd": (["ifupdown", "dhcpcd-base"], IFUP),
    "dhclient": (["ifupdown", "isc-dhcp-client"], IFUP),
    "resolvconf": (["ifupdown", "dhcpcd-base", "resolvconf"], IFUP),
    "openresolv": (["ifupdown", "dhcpcd-base", "openresolv"], IFUP),
    "NetworkManager": (["network-manager"], NMCLI),
}


@pytest.fixture(scope="module")
def server(mail_lab: Lab) -> Namespace:
    """A machine of the lab for servers of these tests."""
    return mail_lab.namespace("server")


@pytest.fixture
def answers(server: Namespace) -> Iterator[Any]:
    """Start a resolver on the server; called with a code it refuses every question with that."""
    started: list[subprocess.Popen[str]] = []

    def start(code: int = 0) -> None:
        command = [*server.enter(), sys.executable, "-c", SERVER, str(code)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        assert started[-1].stdout.readline() == "ready\n"

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def leases(server: Namespace, _mail: Host, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A DHCP server that hands every host a resolver that is not there; called, it waits until a lease is renewed."""
    require_programs("dnsmasq")
    mac = f"52:54:00:d5:{_mail.address.slot:02x}:{_mail.address.index:02x}"
    log = tmp_path / "log"
    options = [
        "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--pid-file=", "--user=root", "--no-ping",
        f"--dhcp-leasefile={tmp_path}/leases", f"--dhcp-range={_mail.ipv4},static,255.255.255.0,2m",
        f"--dhcp-host={mac},{_mail.ipv4}", "--dhcp-option=option:dns-server,192.0.2.66",
        "--dhcp-option=option:domain-name,lease.example.net", f"--dhcp-option=option:T1,{RENEWED_SECONDS}",
        f"--dhcp-option=option:router,10.213.{_mail.address.slot}.1", f"--log-facility={log}",
    ]  # fmt: skip
    process = subprocess.Popen([*server.enter(), "dnsmasq", *options])

    def renewed() -> None:
        before, until = log.read_text().count("DHCPACK"), time.monotonic() + 3 * RENEWED_SECONDS
        while log.read_text().count("DHCPACK") == before:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        time.sleep(2)  # what the host makes of it

    yield renewed
    process.kill()
    process.wait()


def pillar(host: Host, **network: Any) -> dict[str, Any]:
    return {
        **Checkout.good_pillar(host),
        "hardening": QUICK,
        "vpn": {"peers": {"laptop": PEER}},
        "network": {"fqdn": "mail.example.org", "resolvers": own_resolvers(host), **network},
    }


@pytest.fixture
def tree(checkout: Checkout, _mail: Host) -> Checkout:
    """A checkout whose pillar names the host, and the resolvers it has."""
    checkout.pillar(pillar(_mail))
    return checkout


@pytest.fixture(scope="module")
def _named(_mail: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``named``."""
    _started(_mail, "pristine")
    with Checkout(tmp_path_factory.mktemp("named") / "c", _mail, _thin) as checkout:
        checkout.pillar(pillar(_mail))
        applied = checkout.apply("network.interfaces")
        assert applied.returncode == 0, applied.failed or applied.result
    _mail.background_done()
    _kept(_mail, "named")
    return _mail


@pytest.fixture
def named(_named: Host) -> Host:
    """A running host with its names and resolvers."""
    return _started(_named, "named")


def resolvers(host: Host) -> list[str]:
    """Return the resolvers that the host's programs ask."""
    lines = host.run(["cat", "/etc/resolv.conf"]).stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver")]


# Names. That a dry run foresees them on a pristine host is one of the tests of exactness.


def test_names_outlast_a_reboot(named: Host, tree: Checkout) -> None:
    assert named.run(["hostname", "--fqdn"]).stdout == "mail.example.org\n"
    names = named.run(["getent", "hosts", "laptop.vpn", "mail.vpn"]).stdout.split()
    assert names == ["10.100.0.2", "laptop.vpn", "10.100.0.25", "mail.vpn"]
    named.reboot(port=None)
    assert named.run(["hostname"]).stdout == "mail\n"
    assert tree.tracker()["1.3.3"][0] == "[x]"


@pytest.mark.thorough("what a quicker test shows in part")
@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampered_host(named: Host, tree: Checkout, exact: Exact, tamper: str) -> None:
    named.run(["bash", "-euc", TAMPERS[tamper]])
    found = exact(f"network, {tamper}", named, tree, "network.interfaces")
    assert found.made
    assert (found.dry.marks["1.3.3"], found.again.marks["1.3.3"]) == ("[ ]", "[x]")


# Resolvers.


def test_a_resolver_that_answers_is_used(named: Host, tree: Checkout, server: Namespace, answers: Any) -> None:
    answers()
    tree.pillar(pillar(named, resolvers=[server.ipv4, server.ipv6], search=["example.org"]))
    applied = tree.apply("network.interfaces")
    assert applied.returncode == 0, applied.failed or applied.result
    assert resolvers(named) == [server.ipv4, server.ipv6]
    assert named.run(["getent", "ahostsv4", "whatever.example.net"]).stdout.split()[0] == "192.0.2.80"


@pytest.mark.shown_by("2-it failed (SERVFAIL)")
@pytest.mark.parametrize(
    ("code", "said"),
    [(None, "connection refused"), (2, "it failed (SERVFAIL)"), (3, "it does not know the name"), (5, "it refused")],
)
def test_a_resolver_that_does_not_work_changes_nothing(
    named: Host, tree: Checkout, server: Namespace, answers: Any, code: int | None, said: str
) -> None:
    if code is not None:
        answers(code)
    before = resolvers(named)
    tree.pillar(pillar(named, resolvers=[*before[:1], server.ipv4]))
    for test in (True, False):
        applied = tree.apply("network.interfaces", test=test)
        assert applied.returncode != 0
        (comment,) = [words for name, words in applied.failed.items() if name.startswith("lookups")]
        assert comment.startswith(f"network.resolvers: {server.ipv4}: {said}"), comment
        assert comment.endswith(f"{', '.join(before)} stay in use")
    assert resolvers(named) == before


def test_when_lookups_fail_afterwards_the_resolvers_before_are_back(
    named: Host, tree: Checkout, server: Namespace, answers: Any
) -> None:
    answers()
    before = named.run(["cat", "/etc/resolv.conf"]).stdout
    named.run(["sed", "-i", "s/^hosts:.*/hosts: files/", "/etc/nsswitch.conf"])
    tree.pillar(pillar(named, resolvers=[server.ipv4]))
    applied = tree.apply("network.interfaces")
    assert applied.returncode != 0
    (comment,) = [words for name, words in applied.failed.items() if name.startswith("lookups")]
    assert comment.endswith("is not found by them; the resolvers before are back")
    assert named.run(["cat", "/etc/resolv.conf"]).stdout == before


@pytest.mark.shown_by("systemd-resolved")
@pytest.mark.parametrize("writer", WRITERS)
def test_no_lease_and_no_reboot_takes_the_resolvers_away(
    named: Host, tree: Checkout, leases: Callable[[], None], writer: str
) -> None:
    """Exactness is compared here: what a dry run touches cannot be told from what the DHCP client writes meanwhile."""
    packages, take = WRITERS[writer]
    own = own_resolvers(named)
    named.run(["apt-get", "update", "-q"])
    named.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages])
    named.run(["bash", "-euc", take], timeout=60)
    until = time.monotonic() + 60
    while resolvers(named) == own:
        assert time.monotonic() < until, "it never wrote the file"
        time.sleep(0.2)
    dry, real = tree.apply("network.interfaces", test=True), tree.apply("network.interfaces")
    assert real.returncode == 0, real.failed or real.result
    assert dry.changed == real.changed
    assert set(real.changed) == {"lookups are answered by the declared resolvers"}
    for again in ("renewed", "rebooted"):
        if writer != "systemd-resolved":
            leases()
        mark, evidence = tree.tracker()["1.3.3"]
        assert mark == "[x]", evidence
        assert resolvers(named) == (["127.0.0.53"] if writer == "systemd-resolved" else own)
        if again == "renewed":
            named.reboot(port=None)
            if writer == "NetworkManager":
                # The lab's interface keeps its address over a reboot; NetworkManager then asks nobody for one.
                named.run(["nmcli", "connection", "up", "uplink"])
    applied = tree.apply("network.interfaces")
    assert (applied.returncode, applied.changed) == (0, {}), applied.failed or applied.changed


# Interfaces.


@pytest.mark.thorough("what a quicker test shows in part")
def test_an_mtu_that_is_not_the_declared_one_is_said(named: Host, tree: Checkout) -> None:
    tree.pillar(pillar(named, mtu=1400))
    mark, evidence = tree.tracker()["1.3.3"]
    assert (mark, evidence) == ("[ ]", "enp1s0 has MTU 1500, not 1400")
    named.run(["ip", "link", "set", "enp1s0", "mtu", "1400"])
    assert tree.tracker()["1.3.3"][0] == "[x]"
