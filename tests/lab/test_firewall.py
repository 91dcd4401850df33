"""ufw on real hosts: exact dry runs whatever the host is like, repairs, reboots, and nobody is locked out by it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Host, Lab
from labkit.checkout import QUICK, Checkout
from labkit.vpn import Peer

from .conftest import Exact, _kept, _started
from .tampering import Tamper, each
from .test_docker import IMAGE

pytestmark = pytest.mark.lab

SLS = "firewall.rules"
STATE = "ufw: only what is declared comes in"
HERE = "10.100.0.25"

LIMITED = "ufw: logins are not limited"
DOCKER = "Docker: its rules are in the kernel"

# With the states that repair it besides ufw's own.
TAMPERS = [
    Tamper(
        "rules deleted, denied and limited",
        (
            "ufw delete allow 25/tcp; ufw deny 80/tcp; ufw allow 587/tcp; ufw limit 2288/tcp;"
            "sed -i '/tuple.* 465 /,+1d' /etc/ufw/user6.rules"
        ),
        (LIMITED,),
    ),
    Tamper(
        "defaults changed, no IPv6",
        (
            "sed -i s/^IPV6=.*/IPV6=no/ /etc/default/ufw; ufw reload;"
            "ufw default allow incoming; ufw default allow routed; ufw logging off;"
            "sed -i 's/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/; s,^IPT_SYSCTL=.*,IPT_SYSCTL=/etc/ufw/sysctl.conf,' "
            "/etc/default/ufw"
        ),
    ),
    Tamper("switched off and masked", "ufw --force disable; systemctl disable ufw; systemctl mask ufw"),
    Tamper("limited and stopped", "ufw limit 2288/tcp; systemctl stop ufw"),
    Tamper("kernel's rules flushed", "iptables -F; ip6tables -F INPUT; iptables -P INPUT ACCEPT", (DOCKER,)),
    Tamper("Docker's ports pass by", "iptables -D FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-USER"),
    Tamper("a rule in the kernel only", "iptables -A ufw-user-input -p tcp --dport 8080 -j ACCEPT"),
    Tamper(
        "after.rules edited, after6.rules without its block",
        (
            "sed -i '/ DOCKER-USER -j DROP/d; /hitcount/d' /etc/ufw/after.rules;"
            "cp /usr/share/ufw/after6.rules /etc/ufw/after6.rules; ufw reload"
        ),
    ),
    Tamper("files removed", "rm /etc/ufw/user6.rules /etc/ufw/after.rules /etc/ufw/ufw.conf /etc/default/ufw"),
]


@pytest.fixture(scope="module")
def _firewalled(_hardened: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``firewalled``."""
    _started(_hardened, "hardened")
    with Checkout(tmp_path_factory.mktemp("firewall") / "c", _hardened, _thin) as checkout:
        applied = checkout.apply(SLS)
        assert applied.returncode == 0, applied.failed or applied.result
    _hardened.background_done()
    _kept(_hardened, "firewalled")
    return _hardened


@pytest.fixture
def firewalled(_firewalled: Host) -> Host:
    """A running host with the firewall on, sshd still on the public side."""
    return _started(_firewalled, "firewalled")


def switch_on(host: Host, *rules: str) -> None:
    """Install ufw as a provider's image has it, with these rules."""
    install = "apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends ufw"
    host.run(["bash", "-euc", "; ".join([install, *(f"ufw {rule}" for rule in rules), "ufw --force enable"])])


def status(host: Host) -> list[str]:
    """Return ufw's rules as it shows them, IPv4 only, in single spaces."""
    lines = host.run(["ufw", "status"]).stdout.splitlines()
    return [" ".join(line.split()) for line in lines if "ALLOW" in line or "DENY" in line or "LIMIT" in line]


def reached(host: Host, port: int) -> bool:
    """Whether what a container says at a published port of the host's comes here."""
    try:
        with socket.create_connection((host.ipv4, port), 3) as connection:
            return connection.recv(9) != b""
    except OSError:
        return False


# Exactness.


def test_hardened_host(hardened: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("firewall, hardened", hardened, checkout, SLS)
    assert "enabled" in found.real.changed[STATE]
    assert found.again.marks["1.5.1"] == "[~]"
    assert "SSH comes in from everywhere" in found.again["1.5.1 is proven"].comment


@pytest.mark.thorough("what a quicker test shows in part")
def test_providers_image_with_ufw_on(entered: Host, checkout: Checkout, exact: Exact) -> None:
    """sshd and WireGuard change their ports behind a firewall that knows of neither: they are let in before."""
    switch_on(entered, "allow 22", "limit 22/tcp", "allow OpenSSH")
    checkout.pillar({**Checkout.good_pillar(entered), "hardening": QUICK})
    found = exact("firewall, on for port 22 only", entered, checkout, SLS)
    assert found.again.marks["1.5.1"] == "[~]"
    assert not [line for line in status(entered) if line.split()[0] in ("22", "22/tcp", "OpenSSH")]


@pytest.mark.shown_by("rules-deleted,-denied-and-limited")
@each(TAMPERS)
def test_tampered_host(firewalled: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    firewalled.run(["bash", "-euc", tamper.script])
    found = exact(f"firewall, {tamper.id}", firewalled, checkout, SLS)
    assert {state for state, _ in found.made} == {STATE, *tamper.expected}
    assert found.dry.marks["1.5.1"] == "[ ]"
    assert found.again.marks["1.5.1"] == "[~]"


@pytest.mark.thorough("what a quicker test shows in part")
def test_what_is_published_comes_back_behind_the_firewall(firewalled: Host, checkout: Checkout, exact: Exact) -> None:
    """Docker, restarted while containers run, does not let its ports be filtered by itself."""
    run = "docker run -d -p 0.0.0.0:{0}:8025 box /busybox nc -ll -p 8025 -e /busybox echo hello;"
    firewalled.run(["sh", "-euc", IMAGE + run.format(25) + run.format(8080)])
    started = ["sh", "-euc", "docker inspect -f '{{.State.StartedAt}}' $(docker ps -q)"]
    before = firewalled.run(started).stdout
    assert (reached(firewalled, 25), reached(firewalled, 8080)) == (True, False)
    flushed = "iptables -P INPUT ACCEPT; for table in filter nat; do iptables -t $table -F; iptables -t $table -X; done"
    firewalled.run(["bash", "-euc", flushed])
    assert not reached(firewalled, 25)
    found = exact("firewall, all chains removed", firewalled, checkout, SLS)
    assert {state for state, _ in found.made} == {STATE, DOCKER}
    assert "Docker's own rules are not in the kernel" in found.dry["1.5.1 is proven"].comment
    assert (reached(firewalled, 25), reached(firewalled, 8080)) == (True, False)
    assert firewalled.run(started).stdout == before


def test_undeclared_rules_are_reported_and_removed_only_on_request(firewalled: Host, checkout: Checkout) -> None:
    added = (
        "allow 8080/tcp",
        "allow from 192.0.2.0/24 to any port 8000:8010 proto udp comment 'für alle'",
        "route allow in on wg0 out on docker0 to 172.17.0.2 port 80 proto tcp",
        "limit log 26/tcp",
        "allow 'WWW Full'",
        "allow from fd00::/8 to any port 990,995 proto tcp",
        "deny out on eth9",
    )
    before = firewalled.run(["ufw", "status"]).stdout
    firewalled.run(["bash", "-euc", "; ".join(f"ufw {rule}" for rule in added)])
    kept = checkout.apply(SLS)
    assert (kept.returncode, kept.changed) == (0, {})
    assert kept.marks["1.5.1"] == "[~]"
    assert kept["1.5.1 is proven"].comment.count("nobody declared") == len(added)
    checkout.pillar({**Checkout.good_pillar(firewalled), "firewall": {"prune": True}})
    dry, pruned, after = checkout.apply(SLS, test=True), checkout.apply(SLS), checkout.apply(SLS)
    assert dry.changed == pruned.changed
    assert pruned.changed[STATE]["rules removed"].count("\n") == len(added) - 1
    assert (after.changed, firewalled.run(["ufw", "status"]).stdout) == ({}, before)


# Nobody is locked out.


def test_a_firewall_that_would_keep_everybody_out_is_refused(firewalled: Host, checkout: Checkout) -> None:
    firewalled.run(["bash", "-euc", "ufw --force disable; ufw insert 1 deny proto tcp from any to any port 2000:3000"])
    for run in (checkout.apply(SLS, test=True), checkout.apply(SLS)):
        assert run.returncode != 0
        assert "would keep SSH out on port 2288" in run.failed[STATE]
    assert firewalled.run(["ufw", "status"]).stdout == "Status: inactive\n"


@pytest.mark.thorough("what a quicker test shows in part")
@pytest.mark.parametrize(
    ("off", "enabled"), [("ufw --force disable", "no"), ("systemctl restart ufw; systemctl stop ufw", "yes")]
)
def test_a_firewall_that_keeps_the_operator_out_goes_back(
    firewalled: Host, checkout: Checkout, off: str, enabled: str
) -> None:
    """A rule against the operator's own address: only a login that fails can tell."""
    gateway = firewalled.ipv4.rpartition(".")[0] + ".1"
    firewalled.run(["bash", "-euc", f"ufw insert 1 deny from {gateway}; {off}"])
    process = checkout.start("mail", "state.apply", SLS, "--out=json")
    run = Checkout.read(Checkout.finish(process, 0))
    assert run.returncode != 0
    assert "unless a new login by phalkonadmin@" in run.failed[STATE]
    assert firewalled.ssh(["true"], user="phalkonadmin", port=2288, check=False).returncode != 0
    firewalled.run(["systemctl", "start", "mailhost-guard.service"])  # what the timer does when its time has come
    assert firewalled.run(["ufw", "status"]).stdout == "Status: inactive\n"
    assert f"\nENABLED={enabled}\n" in firewalled.read("/etc/ufw/ufw.conf")
    assert firewalled.ssh(["true"], user="phalkonadmin", port=2288).returncode == 0


@pytest.mark.thorough("what a quicker test shows in part")
def test_sshd_does_not_move_behind_a_firewall_that_is_enabled_and_stopped(entered: Host, checkout: Checkout) -> None:
    """It would keep the new port out from its next start on."""
    switch_on(entered, "allow 22")
    entered.run(["sh", "-euc", "systemctl restart ufw; systemctl stop ufw"])
    checkout.pillar({**Checkout.good_pillar(entered), "hardening": QUICK})
    for test in (True, False):
        run = checkout.apply("hardening.baseline", test=test)
        assert run.returncode != 0
        assert [said for said in run.failed.values() if said.startswith("ufw: is enabled, stopped, and without a rule")]
    assert entered.ssh(["true"], user="phalkonadmin").returncode == 0


def test_the_run_is_never_limited(firewalled: Host) -> None:
    """ufw's limit is six connections in 30 seconds."""
    for _ in range(10):
        assert firewalled.ssh(["true"], user="phalkonadmin", port=2288).returncode == 0


@pytest.fixture
def laptop(mail_lab: Lab) -> Iterator[Peer]:
    """The operator's workstation, to be inside the VPN."""
    peer = Peer(mail_lab, "laptop")
    yield peer
    peer.disconnect()


@pytest.mark.thorough("what a quicker test shows in part")
def test_ssh_is_closed_to_the_public_when_sshd_is_on_the_vpn(
    firewalled: Host, checkout: Checkout, laptop: Peer
) -> None:
    checkout.pillar({**Checkout.good_pillar(firewalled), "vpn": {"peers": laptop.pillar()}})
    assert checkout.apply(SLS).returncode == 0
    laptop.connect(checkout.salt("mail", "mailhost_vpn.peer_config", "laptop").stdout)
    firewalled.put(f"ListenAddress {HERE}\n", "/etc/ssh/sshd_config.d/00-vpn.conf")
    firewalled.run(["systemctl", "restart", "ssh"])
    dry = checkout.apply(SLS, test=True, inside=laptop.namespace)
    run = checkout.apply(SLS, inside=laptop.namespace)
    assert run.returncode == 0, run.result
    assert dry.changed == run.changed == {STATE: {"rules removed": "allow 2288/tcp (SSH, until it is on the VPN only)"}}
    assert run.marks["1.5.1"] == "[x]"
    assert "the firewall: confirmed by a new login" in run.stderr
    assert checkout.apply(SLS, inside=laptop.namespace).changed == {}


# What must survive.


def test_after_a_reboot_everything_holds(firewalled: Host, checkout: Checkout) -> None:
    firewalled.reboot(port=2288)
    run = checkout.apply(SLS)
    assert (run.returncode, run.changed, run.marks["1.5.1"]) == (0, {}, "[~]")


def test_a_reload_leaves_the_kernels_settings_alone(firewalled: Host) -> None:
    """ufw's own sysctl.conf would set log_martians to 0."""
    martians = ["cat", "/proc/sys/net/ipv4/conf/all/log_martians"]
    assert firewalled.run(martians).stdout == "1\n"
    firewalled.run(["ufw", "reload"])
    assert firewalled.run(martians).stdout == "1\n"


@pytest.mark.thorough("rare, and takes minutes")
def test_an_upgrade_of_ufw_asks_nothing_and_keeps_everything(firewalled: Host, checkout: Checkout) -> None:
    argv = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qy", "--reinstall", "ufw"]
    subprocess.run([*firewalled.enter(), *argv], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    run = checkout.apply(SLS)
    assert (run.returncode, run.changed, run.marks["1.5.1"]) == (0, {}, "[~]")
