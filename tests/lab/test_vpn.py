"""The tunnel on real hosts: exact dry runs, repairs, handshakes, reboots, and nothing of the VPN by another way."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zxingcpp

import mailhost_roster
from labkit import Host, Lab
from labkit.checkout import QUICK, Checkout
from labkit.tools import run
from labkit.vpn import PLACEHOLDER, Peer

from .conftest import Exact, _kept, _started

pytestmark = pytest.mark.lab

HERE, HERE6 = "10.100.0.25", "fd00:100::25"
THERE, THERE6 = "10.100.0.2", "fd00:100::2"
# Canaries: keys that must turn up nowhere but in the host's configuration.
PRIVATE = "aGVyZSBpcyBhIGNhbmFyeSBhbmQgbm90IGFueSBrZXk="
SHARED = "YW5vdGhlciBjYW5hcnksIHNoYXJlZCBieSB0d28gb2Y="

TAMPERS = {
    "files edited, link down": (
        "sed -i 's/^ListenPort.*/ListenPort = 4500/; s/^AllowedIPs.*/AllowedIPs = 10.100.0.9/' /etc/wireguard/wg0.conf;"
        "chmod 755 /etc/wireguard; chmod 644 /etc/wireguard/wg0.conf;"
        "sed -i s/1000000/1/ /etc/systemd/system/vpn-unreachable.service;"
        "ip link set wg0 down; systemctl disable wg-quick@wg0 vpn-unreachable"
    ),
    "interface changed by hand": (
        "wg set wg0 listen-port 4500 private-key <(wg genkey) peer $(wg genkey | wg pubkey) allowed-ips 10.100.0.66;"
        "wg set wg0 peer $(wg show wg0 peers | head -1) remove; ip address add 10.100.0.99/24 dev wg0"
    ),
    "link deleted, routes too": "ip link delete wg0; for v in 4 6; do ip -$v route flush type unreachable; done",
    "private key lost while the tunnel is up": "sed -i /^PrivateKey/d /etc/wireguard/wg0.conf",
    "configuration removed": "rm /etc/wireguard/wg0.conf",
    "tools removed": "systemctl stop wg-quick@wg0; apt-get -qy remove wireguard-tools",
}


@pytest.fixture(scope="module")
def laptop(mail_lab: Lab) -> Iterator[Peer]:
    """The operator's workstation, to be inside the VPN."""
    peer = Peer(mail_lab, "laptop", (THERE, THERE6))
    yield peer
    peer.disconnect()


def pillar(host: Host, laptop: Peer, **vpn: Any) -> dict[str, Any]:
    """Return a pillar with the laptop as a peer; sshd stays on port 22, so that it answers in the VPN too."""
    whole = {"address6": f"{HERE6}/64", "peers": laptop.pillar(), **vpn}
    return {**Checkout.good_pillar(host), "hardening": QUICK, "ssh": {"port": 22}, "vpn": whole}


@pytest.fixture
def tree(checkout: Checkout, _mail: Host, laptop: Peer) -> Checkout:
    """A checkout whose pillar has the laptop as a peer."""
    checkout.pillar(pillar(_mail, laptop))
    return checkout


@pytest.fixture(scope="module")
def _tunnel(_mail: Host, _thin: Path, laptop: Peer, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``tunnel``."""
    _started(_mail, "pristine")
    with Checkout(tmp_path_factory.mktemp("tunnel") / "c", _mail, _thin) as checkout:
        checkout.pillar(pillar(_mail, laptop))
        applied = checkout.apply("vpn.tunnel")
        assert applied.returncode == 0, applied.result
    _kept(_mail, "tunnel")
    return _mail


@pytest.fixture
def tunnelled(_tunnel: Host, laptop: Peer) -> Host:
    """A running host with the tunnel up and no peer connected."""
    laptop.disconnect()
    return _started(_tunnel, "tunnel")


def connect(tree: Checkout, laptop: Peer) -> None:
    """Bring the laptop into the VPN, as its owner does."""
    printed = tree.salt("mail", "mailhost_vpn.peer_config", "laptop")
    assert printed.returncode == 0, printed
    laptop.connect(printed.stdout)


def public_key(host: Host) -> str:
    return host.run(["wg", "show", "wg0", "public-key"]).stdout.strip()


# Exactness.


@pytest.mark.thorough("what a quicker test shows in part")
def test_pristine_host(fresh: Host, tree: Checkout, exact: Exact) -> None:
    found = exact("vpn, pristine", fresh, tree, "vpn.tunnel")
    assert "wg0 is up" in found.real.changed
    assert found.again.marks["1.3.2"] == "[~]"


@pytest.mark.shown_by("files edited, link down")
@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampered_host(tunnelled: Host, tree: Checkout, exact: Exact, tamper: str) -> None:
    before = public_key(tunnelled)
    tunnelled.run(["bash", "-euc", TAMPERS[tamper]])
    found = exact(f"vpn, {tamper}", tunnelled, tree, "vpn.tunnel")
    assert found.made
    assert found.dry.marks["1.3.2"] == "[ ]"
    assert found.again.marks["1.3.2"] == "[~]"
    assert public_key(tunnelled) == before
    modes = tunnelled.run(["stat", "-c", "%a", "/etc/wireguard", "/etc/wireguard/wg0.conf"]).stdout
    assert modes.split() == ["700", "600"]


# What the tunnel is for.


def test_it_carries_both_protocols_and_the_handshake_is_the_proof(
    tunnelled: Host, tree: Checkout, laptop: Peer
) -> None:
    mark, evidence = tree.tracker()["1.3.2"]
    assert (mark, evidence.rpartition("; ")[2]) == ("[~]", "no peer has shaken hands yet")
    connect(tree, laptop)
    assert laptop.reaches(HERE)
    assert laptop.reaches(HERE6)
    mark, evidence = tree.tracker()["1.3.2"]
    assert mark == "[x]"
    assert re.search(r"; laptop shook hands \d+ s ago$", evidence), evidence
    assert public_key(tunnelled) in evidence
    inside = tree.salt("mail", "state.apply", "vpn.tunnel", inside=laptop.namespace)
    assert f"phalkonadmin@{HERE}:22 (VPN)" in inside.stderr, inside
    assert inside.returncode == 0, inside


@pytest.mark.thorough("what a quicker test shows in part")
def test_it_is_back_after_a_reboot(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    before = laptop.handshake()
    tunnelled.reboot()
    until = time.monotonic() + 30  # the laptop's next keepalive or rekeying, it knows nothing of the reboot
    while not (laptop.reaches(HERE) and laptop.handshake() > before):
        assert time.monotonic() < until
    assert laptop.reaches(HERE6)
    assert tree.tracker()["1.3.2"][0] == "[x]"


@pytest.mark.shown_by("wg-quick down wg0")
@pytest.mark.parametrize("how", ["wg-quick down wg0", "systemctl disable wg-quick@wg0 && systemctl reboot"])
def test_nothing_of_the_vpn_leaves_by_the_default_route(tunnelled: Host, mail_lab: Lab, how: str) -> None:
    """A machine on the same network that would take the packets listens for them."""
    network = mail_lab.namespace("thief")
    for address in (f"{THERE}/24", f"{THERE6}/64"):
        network.run(["ip", "address", "replace", address, "dev", "enp1s0", *(["nodad"] if ":" in address else [])])
    if "reboot" in how:
        tunnelled.run(["systemctl", "disable", "wg-quick@wg0"])
        tunnelled.reboot()
    else:
        tunnelled.run(how.split())
    tunnelled.run(["ip", "-4", "route", "replace", "default", "via", network.ipv4])
    tunnelled.run(["ip", "-6", "route", "replace", "default", "via", network.ipv6])
    for address in (THERE, THERE6):
        # The way there is: without the fence the thief answers.
        refused = tunnelled.run(["ping", "-c", "1", "-W", "2", address], check=False)
        assert refused.returncode == 2
        assert re.search("(?i)unreachable|no route to host", refused.stdout + refused.stderr)
    tunnelled.run(["systemctl", "disable", "--now", "vpn-unreachable"])
    for family in ("-4", "-6"):
        tunnelled.run(["ip", family, "route", "flush", "type", "unreachable"])
    for address in (THERE, THERE6):
        assert tunnelled.run(["ping", "-c", "1", "-W", "2", address], check=False).returncode == 0, "the trap is none"


# Changes of a tunnel that is in use.


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_changed_peer_does_not_disturb_the_others(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    before = (laptop.handshake(), tunnelled.run(["cat", "/sys/class/net/wg0/ifindex"]).stdout)
    peers = {**laptop.pillar(), "phone": {"public_key": PRIVATE, "addresses": ["10.100.0.3"]}}
    tree.pillar(pillar(tunnelled, laptop, peers=peers))
    applied = tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    assert applied.changed["wg0 is up"]["interface"] == "peer phone added"
    assert laptop.reaches(HERE)
    assert (laptop.handshake(), tunnelled.run(["cat", "/sys/class/net/wg0/ifindex"]).stdout) == before


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_preshared_key_is_needed_once_it_is_declared(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    shared = run(["wg", "genpsk"]).stdout.strip()
    tree.pillar(pillar(tunnelled, laptop, peers={"laptop": {**laptop.pillar()["laptop"], "preshared_key": shared}}))
    dry, applied = tree.apply("vpn.tunnel", test=True), tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    assert dry.changed == applied.changed
    assert applied.changed["wg0 is up"]["interface"] == "peer laptop: preshared key"
    assert shared not in applied.result.stdout + applied.result.stderr
    printed = tree.salt("mail", "mailhost_vpn.peer_config", "laptop").stdout
    laptop.connect(printed.replace(f"PresharedKey = {shared}\n", ""), wait=0)
    assert not laptop.reaches(HERE)
    connect(tree, laptop)
    assert laptop.reaches(HERE)


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_hub_is_reached_without_being_asked(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    """The host finds the hub at its endpoint; the hub knows no place of the host, and others come in through it."""
    behind = "10.100.0.77"
    hub = {**laptop.pillar()["laptop"], "addresses": ["10.100.0.0/24"], "endpoint": f"{laptop.namespace.ipv4}:51999"}
    tree.pillar(pillar(tunnelled, laptop, peers={"hub": hub}))
    applied = tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    laptop.connect(
        f"[Interface]\nPrivateKey = {PLACEHOLDER}\nAddress = {THERE}/32, {behind}/32\nListenPort = 51999\n"
        f"[Peer]\nPublicKey = {public_key(tunnelled)}\nAllowedIPs = {HERE}/32\n",
        wait=40,  # the host's keepalive is 25 s, and its first handshake may have been before the hub was there
    )
    assert tunnelled.run(["ping", "-c", "1", "-W", "2", behind], check=False).returncode == 0
    assert tree.tracker()["1.3.2"][0] == "[x]"


@pytest.mark.thorough("what a quicker test shows in part")
def test_addresses_and_mtu_change_by_a_restart(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    tree.pillar(pillar(tunnelled, laptop, address="10.100.0.26/24", mtu=1380))
    applied = tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    assert applied.changed["wg0 is up"]["interface"].startswith("restarted for addresses ")
    connect(tree, laptop)
    assert laptop.reaches("10.100.0.26")
    assert "mtu 1380" in tunnelled.run(["ip", "link", "show", "wg0"]).stdout


@pytest.mark.thorough("what a quicker test shows in part")
def test_the_only_addresses_of_sshd_are_not_taken_away(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    drop_in = "/etc/ssh/sshd_config.d/00-mailhost-listen.conf"
    tunnelled.put(f"ListenAddress {HERE}\nListenAddress {HERE6}\n", drop_in)
    tunnelled.run(["systemctl", "restart", "ssh"])
    tree.pillar(pillar(tunnelled, laptop, address="10.100.0.26/24", address6="fd00:100::26/64"))
    tree.roster({"mail": tree.entry(tunnelled, host=[HERE])})
    for test in (True, False):
        run = tree.apply("vpn.tunnel", test=test, inside=laptop.namespace)
        assert run.returncode != 0
        assert run.failed["wg0 is up"].startswith(f"vpn.address: sshd answers on {HERE}, {HERE6} only, which wg0 would")
    assert laptop.reaches(HERE)


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_change_that_cuts_off_the_run_itself_goes_back(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    other = run(["wg", "pubkey"], input=run(["wg", "genkey"]).stdout).stdout.strip()
    wrong = pillar(tunnelled, laptop, peers={"laptop": {"public_key": other, "addresses": [THERE]}})
    wrong["access"]["confirm_minutes"] = 2
    tree.pillar(wrong)
    # Only the VPN leads to the host: the operator has no other way.
    tree.roster({"mail": tree.entry(tunnelled, host="192.0.2.1")})
    process = tree.start("mail", "state.apply", "vpn.tunnel", inside=laptop.namespace)
    until = time.monotonic() + 240

    def known() -> bool:
        # What goes back restarts the tunnel: for a moment there is no interface to ask.
        shown = tunnelled.run(["wg", "show", "wg0", "peers"], check=False)
        return laptop.pillar()["laptop"]["public_key"] in shown.stdout

    while known():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.5)
    while not known():
        assert time.monotonic() < until
        time.sleep(1)
    tree.finish(process, time.monotonic())
    while not laptop.reaches(HERE):
        assert time.monotonic() < until
    tree.pillar(pillar(tunnelled, laptop))
    back = tree.apply("vpn.tunnel", inside=laptop.namespace)
    assert back.returncode == 0, back.result
    assert "wg0 is up" not in back.changed


# Keys.


@pytest.mark.thorough("what a quicker test shows in part")
def test_keys_are_nowhere_but_in_the_configuration(fresh: Host, tree: Checkout, laptop: Peer) -> None:
    peers = {"laptop": {**laptop.pillar()["laptop"], "preshared_key": SHARED}}
    tree.pillar(pillar(fresh, laptop, private_key=PRIVATE, peers=peers))
    with Watch(fresh) as seen:
        results = [tree.apply("vpn.tunnel", test=test).result for test in (True, False)]
        fresh.run(["sed", "-i", "/^P/d", "/etc/wireguard/wg0.conf"])
        results += [tree.apply("vpn.tunnel", test=test).result for test in (True, False)]
    assert all(result.returncode == 0 for result in results), results
    for secret in (PRIVATE, SHARED):
        for result in results:
            assert secret not in result.stdout + result.stderr
        assert secret not in seen()
        found = fresh.run(
            ["grep", "-rlF", secret, "/etc", "/var", "/root", "/home", "/run", "/tmp"], check=False
        ).stdout
        assert found.split() == ["/etc/wireguard/wg0.conf"]
        kept = subprocess.run(
            ["grep", "-rlF", secret, str(tree.directory / ".salt")], capture_output=True, text=True, check=False
        )
        assert kept.stdout == ""


class Watch:
    """Collect the arguments of every process of a host for as long as the context lasts."""

    SCRIPT = """
import glob, pathlib, sys, time
seen = set()
while pathlib.Path("/run/watched").exists():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            seen.add(open(path, "rb").read())
        except OSError:
            pass
    time.sleep(0.01)
sys.stdout.buffer.write(b"\\n".join(seen))
"""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __enter__(self) -> Any:
        self.host.run(["touch", "/run/watched"])
        self.process = subprocess.Popen([*self.host.enter(), "python3", "-c", self.SCRIPT], stdout=subprocess.PIPE)
        return lambda: self.words

    def __exit__(self, *_: object) -> None:
        self.host.run(["rm", "/run/watched"])
        self.words = self.process.communicate()[0].decode(errors="replace")
        assert "wg\0" in self.words, "nothing was seen"


def test_a_peers_new_key_is_printed_once_and_kept_nowhere(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    # As after make provision or make adopt: nobody wrote the host's address into the roster.
    roster = tree.directory / "etc/salt/roster"
    mailhost_roster.keep(str(roster), "mail", tree.entry(tunnelled))
    roster.unlink()
    printed = tree.salt("mail", "mailhost_vpn.peer_config", "phone", "new_key=True", "qr=True")
    assert printed.returncode == 0, printed
    configuration = printed.stdout[: printed.stdout.index(BLOCKS[3])]
    assert scanned(printed.stdout) == configuration
    private = re.search(r"^PrivateKey = (\S{44})$", printed.stdout, re.MULTILINE)
    public = re.search(r"^#       public_key: (\S{44})$", printed.stdout, re.MULTILINE)
    assert private and public, printed
    assert run(["wg", "pubkey"], input=private[1]).stdout.strip() == public[1]
    assert "#       addresses: ['10.100.0.3', 'fd00:100::3']" in printed.stdout
    places = [str(tree.directory), *map(str, Path("/tmp").glob("mh.*"))]
    assert subprocess.run(["grep", "-rlF", private[1], *places], capture_output=True, check=False).stdout == b""
    assert tunnelled.run(["grep", "-rlF", private[1], "/etc", "/var", "/run", "/tmp"], check=False).stdout == ""
    # Into the pillar it goes, and the printed configuration works as it is.
    phone = {"public_key": public[1], "addresses": ["10.100.0.3", "fd00:100::3"]}
    tree.pillar(pillar(tunnelled, laptop, peers={**laptop.pillar(), "phone": phone}))
    assert tree.apply("vpn.tunnel").returncode == 0
    laptop.connect(configuration)
    assert laptop.reaches(HERE6)


# A module above and one below in each character, as phones see them on a dark terminal.
BLOCKS = " ▀▄█"


def scanned(printed: str) -> str:
    """Return what a scanner reads in the QR code of characters."""
    lines = [line for line in printed.splitlines() if line and not line.strip(BLOCKS)]
    rows = [[BLOCKS.index(block) >> half & 1 for block in line] for line in lines for half in (0, 1)]
    scale = 4
    pixels = bytes(255 * light for row in rows for _ in range(scale) for light in row for _ in range(scale))
    image = memoryview(pixels).cast("B", (scale * len(rows), scale * len(rows[0])))
    (code,) = zxingcpp.read_barcodes(image)
    return str(code.text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tablet"], "vpn.peers: no tablet, there are laptop; with new_key=True one is made"),
        (["My_Phone", "new_key=True"], "'My_Phone' is not a name of small letters, digits and dashes"),
    ],
)
def test_no_configuration_for_a_peer_that_cannot_be(
    tunnelled: Host, tree: Checkout, words: list[str], said: str
) -> None:
    printed = tree.salt("mail", "mailhost_vpn.peer_config", *words)
    assert printed.returncode != 0
    assert said in printed.stdout
    assert "PrivateKey" not in printed.stdout


def test_a_new_host_key_is_kept_when_a_peer_uses_it(tunnelled: Host, tree: Checkout, laptop: Peer) -> None:
    connect(tree, laptop)
    old = public_key(tunnelled)
    ping = subprocess.Popen(
        [*laptop.namespace.enter(), "ping", "-i", "0.5", "-w", "40", HERE], stdout=subprocess.PIPE, text=True
    )
    rotated = tree.salt("mail", "mailhost_vpn.rotate_key", "seconds=10", inside=laptop.namespace)
    assert rotated.returncode == 0, rotated
    new = re.search(r"becomes (\S{44})", rotated.stdout)
    assert new, rotated
    refused = tree.apply("vpn.tunnel", test=True)
    assert "a new key is on trial" in refused.failed["wg0 is up"]
    until = time.monotonic() + 60
    while public_key(tunnelled) == old:
        assert time.monotonic() < until
        time.sleep(0.5)
    # What the peer's owner does.
    ends = f"{HERE},{HERE6}"
    endpoint = f"{tunnelled.ipv4}:51820"
    laptop.namespace.run(["wg", "set", laptop.interface, "peer", old, "remove", "peer", new[1], "endpoint", endpoint,
                          "allowed-ips", ends, "persistent-keepalive", "25"])  # fmt: skip
    pinged = ping.communicate()[0]
    assert " 0% packet loss" in pinged, pinged[-300:]
    assert public_key(tunnelled) == new[1]
    assert tunnelled.run(["ls", "/run/mailhost"]).stdout.split() == ["lock", "place", "progress"]
    applied = tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    assert "wg0 is up" not in applied.changed
    tunnelled.reboot()
    assert public_key(tunnelled) == new[1]


@pytest.mark.thorough("what a quicker test shows in part")
@pytest.mark.parametrize("end", ["systemctl stop vpn-key-rotation", "reboot"])
def test_a_new_host_key_on_trial_goes_back(tunnelled: Host, tree: Checkout, laptop: Peer, end: str) -> None:
    old = public_key(tunnelled)
    rotated = tree.salt("mail", "mailhost_vpn.rotate_key", "seconds=10")
    assert rotated.returncode == 0, rotated
    until = time.monotonic() + 60
    while public_key(tunnelled) == old:
        assert time.monotonic() < until
        time.sleep(0.5)
    again = tree.salt("mail", "mailhost_vpn.rotate_key", "seconds=10")
    assert again.returncode != 0
    assert "a new key is on trial already" in again.stdout
    if end == "reboot":
        tunnelled.reboot()
    else:
        tunnelled.run(end.split())
    until = time.monotonic() + 30
    while public_key(tunnelled) != old:
        assert time.monotonic() < until
        time.sleep(0.5)
    applied = tree.apply("vpn.tunnel")
    assert applied.returncode == 0, applied.result
    assert "wg0 is up" not in applied.changed
    connect(tree, laptop)
    assert laptop.reaches(HERE)
