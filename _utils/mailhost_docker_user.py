"""Docker's published ports, kept to the declared matrix by the chain DOCKER-USER. Pure.

Docker forwards published ports past ufw's rules; DOCKER-USER is the one chain that it asks first and never writes to
(Docker's manual, "Packet filtering and firewalls"). ufw loads it with after.rules at boot and at each reload, before
Docker is there or after; Docker then uses the chain that it finds.

The rules trust by interface and original destination, never by source: a neighbour can have any source address, and can
send packets for the VPN's or a container's own address to the public interface.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

CHAIN = "DOCKER-USER"
BEGIN = "# BEGIN mailhost: published container ports"
END = "# END mailhost"
_BLOCK = rf"^{re.escape(BEGIN)}\n(?:.*\n)*?{re.escape(END)}\n"

# What Docker calls its bridges: docker0, docker_gwbridge, br-<id>. What comes from a container is not filtered here.
BRIDGES = ("docker+", "br-+")


def block(services: Iterable[Mapping[str, Any]], interface: str, addresses: Iterable[str]) -> str:
    """Return the block of after.rules or after6.rules.

    services
        Rows of port, protocol, from (public or vpn), limited.
    interface
        The VPN's.
    addresses
        The host's public addresses of the file's family: a public port is public there, and at no other address.
    """
    rules = ["-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
    rules += [f"-i {bridge} -j RETURN" for bridge in BRIDGES]
    rows = list(services)
    ways = [(row, f"-i {interface}", "") for row in rows]
    public = [row for row in rows if row["from"] == "public"]
    ways += [(row, f"! -i {interface}", f" --ctorigdst {address}") for row in public for address in addresses]
    for row, way, aimed in ways:
        # DNAT: the packet was aimed at the host, not at a container's own address.
        packet = f"{way} -p {row['protocol']} -m conntrack --ctstate DNAT{aimed} --ctorigdstport {row['port']}"
        if row["limited"]:
            # The same limit as ufw's own.
            recent = f"-m recent --name container-{row['port']}"
            rules.append(f"{packet} {recent} --set")
            rules.append(f"{packet} {recent} --update --seconds 30 --hitcount 6 -j DROP")
        rules.append(f"{packet} -j RETURN")
    rules.append("-j DROP")
    lines = [BEGIN, "*filter", f":{CHAIN} - [0:0]", *(f"-A {CHAIN} {rule}" for rule in rules), "COMMIT", END]
    return "\n".join(lines) + "\n"


def put(text: str, new: str) -> str:
    """Return the text of a rules file with the block in it: in the old one's place, or at the end."""
    if found(text):
        return re.sub(_BLOCK, lambda _: new, text, count=1, flags=re.MULTILINE)
    return f"{text.rstrip()}\n\n{new}" if text.strip() else new


def difference(text: str, new: str) -> str:
    """Return what comes and goes when a rules file gets a new block, in words where it is one of ours."""
    old, rules = _shown(found(text)), _shown(new)
    lines = [f"- {rule}" for rule in old if rule not in rules] + [f"+ {rule}" for rule in rules if rule not in old]
    return "\n".join(lines) or "put back as declared"


def _shown(text: str) -> list[str]:
    """Return the rules of a block for people."""
    lines = []
    for line in text.splitlines():
        if not line.startswith(f"-A {CHAIN} "):
            continue
        rule = line.removeprefix(f"-A {CHAIN} ")
        parts = re.search(r"-i (\S+) -p (\w+) .*?DNAT(?: --ctorigdst (\S+))? --ctorigdstport (\d+)(.*)", rule)
        if parts:
            interface, protocol, address, port, rest = parts.groups()
            where = f"at {address}" if address else f"on {interface}"
            limited = " (limited)" if "recent" in rest else ""
            if f"{port}/{protocol} {where} (limited)" not in lines:  # of a limited one there are three
                lines.append(f"{port}/{protocol} {where}{limited}")
        else:
            lines.append(rule)
    return lines


def found(text: str) -> str:
    """Return the block that a rules file has, "" when it has none."""
    match = re.search(_BLOCK, text, re.MULTILINE)
    return match.group() if match else ""


def without(text: str) -> str:
    """Return a rules file without the block."""
    return re.sub(_BLOCK, "", text, flags=re.MULTILINE).rstrip("\n") + "\n"
