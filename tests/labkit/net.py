"""A lab's network: one bridge, every host and onlooker in a namespace of its own, this machine as the gateway.

Labs have slots, so that any number of them can be up at once: slot 7 is 10.213.7.0/24, fd00:213:7::/64, bridge mhlab7,
chains MHLAB7, namespaces mh7-NAME. Only name lookups and package downloads get out, over IPv4; there is nothing
behind IPv6 but the lab. What is kept about slots lies under /run: it dies with this machine as the network does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import procs
from .tools import LabError, locked, run

SLOTS = range(1, 250)
V4_ALL, V6_ALL = "10.213.0.0/16", "fd00:213::/32"
# Addresses the tests use. While no interface has them they would follow this machine's default route out.
BLACKHOLES = ("10.100.0.0/24", V4_ALL, "fd00:100::/32", V6_ALL)
_MARK = ("metric", "4242", "proto", "213")  # how the routes are known for ours
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
INTERFACE = "enp1s0"  # as Vultr's Debian names it


@dataclass(frozen=True)
class Address:
    """One end of the lab's network: a host, or a namespace that looks on."""

    slot: int
    name: str
    index: int

    @property
    def ipv4(self) -> str:
        """Its IPv4 address."""
        return f"10.213.{self.slot}.{self.index}"

    @property
    def ipv6(self) -> str:
        """Its IPv6 address."""
        return f"fd00:213:{self.slot}::{self.index}"

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"mh{self.slot}-{self.name}"

    @property
    def handle(self) -> Path:
        """The file that stands for its network namespace."""
        return Path("/run/netns") / self.namespace

    @property
    def cable(self) -> str:
        """The end of its veth pair that is on the bridge."""
        return f"mhlab{self.slot}p{self.index}"

    def unplug(self) -> list[list[str]]:
        """Return the commands that take it off the network; each may fail when there is nothing to take off."""
        return [["ip", "link", "del", self.cable], ["ip", "netns", "del", self.namespace]]

    def plug(self) -> list[list[str]]:
        """Return the commands that put a new, empty namespace on the bridge."""
        inside = ["ip", "-n", self.namespace]
        mac = f"52:54:00:d5:{self.slot:02x}:{self.index:02x}"
        return [
            ["ip", "netns", "add", self.namespace],
            [
                "ip",
                "link",
                "add",
                self.cable,
                "type",
                "veth",
                "peer",
                "name",
                INTERFACE,
                "address",
                mac,
                "netns",
                self.namespace,
            ],
            ["ip", "link", "set", self.cable, "master", bridge(self.slot), "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "link", "set", INTERFACE, "up"],
            [*inside, "addr", "add", f"{self.ipv4}/24", "brd", "+", "dev", INTERFACE],
            # nodad: the address can be used at once, and nobody else can have it.
            [*inside, "addr", "add", f"{self.ipv6}/64", "dev", INTERFACE, "nodad"],
            [*inside, "route", "add", "default", "via", gateway(self.slot)],
        ]

    def plug_tap(self, tap: str) -> list[list[str]]:
        """Return the commands that put a new namespace on the bridge in which a virtual machine has the address.

        Params: tap, the name of its end of the cable. A machine in a namespace is found and ended as a container is.
        """
        inside, uplink, switch = ["ip", "-n", self.namespace], "uplink", "switch"
        return [
            ["ip", "netns", "add", self.namespace],
            ["ip", "link", "add", self.cable, "type", "veth", "peer", "name", uplink, "netns", self.namespace],
            ["ip", "link", "set", self.cable, "master", bridge(self.slot), "up"],
            [*inside, "link", "add", switch, "type", "bridge", "forward_delay", "0"],
            [*inside, "tuntap", "add", tap, "mode", "tap"],
            *([*inside, "link", "set", port, "master", switch, "up"] for port in (uplink, tap)),
            [*inside, "link", "set", switch, "up"],
        ]


def bridge(slot: int) -> str:
    """Return the name of a slot's bridge."""
    return f"mhlab{slot}"


def gateway(slot: int) -> str:
    """Return this machine's IPv4 address in a slot."""
    return f"10.213.{slot}.1"


def claim(lab: Path, before: int | None = None) -> int:
    """Return the slot of a lab's directory, which is its own from now on.

    Params: lab; before, the slot it had, which it gets again unless this machine was restarted and another lab has it.
    Raises: LabError when all slots are taken.
    """
    with locked(_registry() / "lock"):
        for slot in SLOTS if before is None else (before, *SLOTS):
            if slot == before and claims().get(slot) == lab:
                return slot
            if not _claim_file(slot).exists() and not Path(f"/sys/class/net/{bridge(slot)}").exists():
                _claim_file(slot).write_text(json.dumps({"lab": str(lab)}))
                return slot
    raise LabError(f"all {len(SLOTS)} lab networks are in use: take some down")


def claims() -> dict[int, Path]:
    """Return the directory of the lab that has each taken slot."""
    files = _registry().glob("slot-*.json")
    return {int(file.stem.removeprefix("slot-")): Path(json.loads(file.read_text())["lab"]) for file in files}


def up(slot: int, ports: set[int]) -> None:
    """Bring a slot's bridge, routes and firewall rules up, unless they are.

    Params: slot; ports, the TCP ports packages are downloaded from.
    """
    with locked(_registry() / "lock"):
        # The bridge comes up last: when it is up everything is.
        if run(["ip", "-br", "link", "show", "up", "dev", bridge(slot)], check=False).stdout:
            return
        run(["ip", "link", "del", bridge(slot)], check=False)
        _forward_on()
        for network in BLACKHOLES:
            run(["ip", *_family(network), "route", "replace", "blackhole", network, *_MARK])
        _firewall(slot, ports)
        name = bridge(slot)
        # The address is a fixed one, or the bridge would change it with every port that comes and goes.
        mac = f"52:54:00:d5:{slot:02x}:01"
        run(["ip", "link", "add", name, "address", mac, "type", "bridge", "forward_delay", "0"])
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
        run(["ip", "addr", "add", f"{gateway(slot)}/24", "brd", "+", "dev", name])
        run(["ip", "addr", "add", f"fd00:213:{slot}::1/64", "dev", name, "nodad"])
        run(["ip", "link", "set", name, "up"])


def down(slot: int) -> None:
    """Remove everything of a slot: processes in its namespaces, namespaces, veths, bridge, firewall rules.

    With the last slot go the routes, and IP forwarding is what it was. Doing it twice is fine.
    """
    with locked(_registry() / "lock"):
        for handle in Path("/run/netns").glob(f"mh{slot}-*"):
            procs.kill_all(lambda pid, handle=handle: procs.in_namespace(pid, handle))  # type: ignore[misc]
            run(["ip", "netns", "del", handle.name])
        for link in Path("/sys/class/net").glob(f"mhlab{slot}p*"):
            run(["ip", "link", "del", link.name], check=False)
        run(["ip", "link", "del", bridge(slot)], check=False)
        _firewall_off(slot)
        _claim_file(slot).unlink(missing_ok=True)
        if not claims():
            for network in BLACKHOLES:
                run(["ip", *_family(network), "route", "del", "blackhole", network, *_MARK], check=False)
            _forward_off()


def do(commands: Sequence[Sequence[str]], *, check: bool = True) -> None:
    """Run commands one after the other."""
    for command in commands:
        run(command, check=check)


def _firewall(slot: int, ports: set[int]) -> None:
    """Let through, from the lab to the world, what apt needs, and nothing else."""
    chain, name = f"MHLAB{slot}", bridge(slot)
    _firewall_off(slot)
    for tables, own in (("iptables", (V4_ALL, "10.100.0.0/24")), ("ip6tables", ())):
        tool = [tables, "-w", "10"]
        run([*tool, "-N", chain])
        rules = [["-i", name, "-o", name, "-j", "ACCEPT"]]
        rules += [["-i", name, "-d", network, "-j", "DROP"] for network in own]
        if tables == "iptables":
            # One rule a port: not every kernel has the multiport match.
            rules += [["-i", name, "-p", "udp", "--dport", "53", "-j", "ACCEPT"]]
            rules += [["-i", name, "-p", "tcp", "--dport", str(port), "-j", "ACCEPT"] for port in sorted(ports | {53})]
            rules += [["-o", name, "!", "-s", V4_ALL, "-j", "ACCEPT"]]
        rules += [["-i", name, "-j", "DROP"], ["-o", name, "-j", "DROP"]]
        for rule in rules:
            run([*tool, "-A", chain, *rule])
        run([*tool, "-I", "FORWARD", "1", "-j", chain])
    nat = ["iptables", "-w", "10", "-t", "nat"]
    run([*nat, "-N", chain])
    run([*nat, "-A", chain, "-s", f"10.213.{slot}.0/24", "!", "-d", V4_ALL, "-j", "MASQUERADE"])
    run([*nat, "-I", "POSTROUTING", "1", "-j", chain])


def _firewall_off(slot: int) -> None:
    chain = f"MHLAB{slot}"
    places = (("iptables", "filter", "FORWARD"), ("ip6tables", "filter", "FORWARD"), ("iptables", "nat", "POSTROUTING"))
    for tables, table, hook in places:
        tool = [tables, "-w", "10", "-t", table]
        while run([*tool, "-D", hook, "-j", chain], check=False).returncode == 0:
            pass
        run([*tool, "-F", chain], check=False)
        run([*tool, "-X", chain], check=False)


def _forward_on() -> None:
    before = _registry() / "ip_forward"
    if not before.exists():
        before.write_text(_FORWARD.read_text())
    _FORWARD.write_text("1")


def _forward_off() -> None:
    before = _registry() / "ip_forward"
    if before.exists():
        _FORWARD.write_text(before.read_text())
        before.unlink()


def _family(network: str) -> list[str]:
    return ["-6"] if ":" in network else []


def _claim_file(slot: int) -> Path:
    return _registry() / f"slot-{slot}.json"


def _registry() -> Path:
    """Return the directory of what all labs of this machine share, whatever their cache directory.

    Named after this boot: where /run is no tmpfs, what was up before it is not up any more.
    """
    place = Path("/run/mailhost-lab") / procs.boot_id()
    place.mkdir(parents=True, exist_ok=True)
    return place
