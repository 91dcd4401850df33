"""What ufw's command line cannot say: two chains, in a block of its after.rules and after6.rules. Pure.

Docker forwards published ports past ufw's rules; DOCKER-USER is the one chain that it asks first and never writes to
(Docker's manual, "Packet filtering and firewalls"). ufw loads it with after.rules at boot and at each reload, before
Docker is there or after; Docker then uses the chain that it finds.

The VPN's address answers on every interface (RFC 1122, 3.3.4.2: Linux is a weak host), so a neighbour on the provider's
network reaches by it whatever is let in from everywhere. A chain before ufw's own rules keeps it to the tunnel.

Both trust by interface and original destination, never by source: a neighbour can have any source address.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

CONTAINERS = "DOCKER-USER"
TUNNEL = "mailhost-vpn"
BEGIN = "# BEGIN mailhost: published container ports, and the VPN's address"
END = "# END mailhost"
_BLOCK = r"^# BEGIN mailhost.*\n(?:.*\n)*?# END mailhost\n"

# What Docker calls its bridges: docker0, docker_gwbridge, br-<id>. What comes from a container is not filtered here.
BRIDGES = ("docker+", "br-+")


def block(
    family: int,
    services: Iterable[Mapping[str, Any]],
    interface: str,
    own: Iterable[str],
    addresses: Iterable[str],
) -> str:
    """Return the block of after.rules (family 4) or after6.rules (6).

    services
        Rows of port, protocol, from (public or vpn), limited.
    interface, own
        The VPN's interface, and the host's addresses in it, of this family.
    addresses
        The host's public addresses of this family: a public port of a container is public there, and nowhere else.
    """
    inside = [f"-i {bridge} -j RETURN" for bridge in BRIDGES]
    containers = ["-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN", *inside]
    containers += _published(list(services), interface, list(addresses))
    tunnel = ["-i lo -j RETURN", *inside, f"-i {interface} -j RETURN"]
    chains = {CONTAINERS: [*containers, "-j DROP"], TUNNEL: [*tunnel, "-j DROP"]}
    lines = [f":{name} - [0:0]" for name in chains]
    lines += [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
    # ufw empties this chain of its own whenever it loads after.rules, so the rule is never there twice.
    lines += [f"-I {_before(family)} -d {address} -j {TUNNEL}" for address in own]
    return "\n".join([BEGIN, "*filter", *lines, "COMMIT", END, ""])


def _published(services: list[Mapping[str, Any]], interface: str, addresses: list[str]) -> list[str]:
    """Return the rules that let declared ports of containers in."""
    ways = [(row, f"-i {interface}", "") for row in services]
    public = [row for row in services if row["from"] == "public"]
    ways += [(row, f"! -i {interface}", f" --ctorigdst {address}") for row in public for address in addresses]
    rules = []
    for row, way, aimed in ways:
        # DNAT: the packet was aimed at the host, not at a container's own address.
        packet = f"{way} -p {row['protocol']} -m conntrack --ctstate DNAT{aimed} --ctorigdstport {row['port']}"
        if row["limited"]:
            # The same limit as ufw's own.
            recent = f"-m recent --name container-{row['port']}"
            rules.append(f"{packet} {recent} --set")
            rules.append(f"{packet} {recent} --update --seconds 30 --hitcount 6 -j DROP")
        rules.append(f"{packet} -j RETURN")
    return rules


def hooks(family: int, text: str) -> list[str]:
    """Return the rules that a rules file puts before ufw's own, without the chain's name."""
    begin = f"-I {_before(family)} "
    return [line.removeprefix(begin) for line in found(text).splitlines() if line.startswith(begin)]


def put(text: str, new: str) -> str:
    """Return the text of a rules file with the block in it, once: in the old one's place, or at the end."""
    if len(re.findall(_BLOCK, text, re.MULTILINE)) == 1:
        return re.sub(_BLOCK, lambda _: new, text, flags=re.MULTILINE)
    rest = without(text).rstrip()
    return f"{rest}\n\n{new}" if rest else new


def difference(text: str, new: str) -> str:
    """Return what comes and goes when a rules file gets a new block, in words where it is one of ours."""
    old, rules = _shown(found(text)), _shown(new)
    lines = [f"- {rule}" for rule in old if rule not in rules] + [f"+ {rule}" for rule in rules if rule not in old]
    return "\n".join(lines) or "put back as declared"


def _shown(text: str) -> list[str]:
    """Return the rules of a block for people."""
    lines = []
    for line in text.splitlines():
        if not line.startswith(("-A", "-I")):
            continue
        parts = re.search(r"-i (\S+) -p (\w+) .*?DNAT(?: --ctorigdst (\S+))? --ctorigdstport (\d+)(.*)", line)
        if parts:
            interface, protocol, address, port, rest = parts.groups()
            where = f"at {address}" if address else f"on {interface}"
            limited = " (limited)" if "recent" in rest else ""
            if f"{port}/{protocol} {where} (limited)" not in lines:  # of a limited one there are three
                lines.append(f"{port}/{protocol} {where}{limited}")
        else:
            lines.append(line)
    return lines


def found(text: str) -> str:
    """Return the block that a rules file has, "" when it has none."""
    match = re.search(_BLOCK, text, re.MULTILINE)
    return match.group() if match else ""


def without(text: str) -> str:
    """Return a rules file without the block."""
    return re.sub(_BLOCK, "", text, flags=re.MULTILINE).rstrip("\n") + "\n"


def _before(family: int) -> str:
    """Return the chain of ufw's that all that comes in goes through first."""
    return "ufw-before-input" if family == 4 else "ufw6-before-input"
