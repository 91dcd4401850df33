"""WireGuard: its configuration, what is there, what differs, and a peer's own configuration. Pure.

A private or preshared key is never part of what differs: changes are shown to people.
"""

import base64
import ipaddress
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_file

DIRECTORY = "/etc/wireguard"
ROTATION = "vpn-key-rotation.service"
# The kernel takes the route with the smallest metric: the tunnel's own, 0 or 256, before this one.
METRIC = 1000000


def unit(interface: str) -> str:
    """Return the unit that brings an interface up."""
    return f"wg-quick@{interface}.service"


def trial_key(interface: str) -> str:
    """Return the file of a new private key on trial, there as long as the trial lasts."""
    return f"/run/mailhost/{interface}.key"


def addresses(vpn: Mapping[str, Any]) -> list[str]:
    """Return the host's own addresses in the VPN, with their prefix lengths."""
    return [address for address in (vpn["address"], vpn["address6"]) if address]


def bare(own: Iterable[str]) -> list[str]:
    """Return addresses without their prefix lengths."""
    return [address.split("/")[0] for address in own]


def networks(own: Iterable[str]) -> list[str]:
    """Return the networks of addresses with prefix lengths."""
    return [str(ipaddress.ip_interface(address).network) for address in own]


# The configuration, wg-quick(8)'s text.


def configuration(vpn: Mapping[str, Any], private_key: str) -> str:
    """Return the text of the interface's file.

    vpn
        The section of the pillar.
    private_key
        The host's.
    """
    lines = [
        "# Managed by Salt (vpn.tunnel). The private key is this host's own.",
        "[Interface]",
        f"PrivateKey = {private_key}",
        f"ListenPort = {vpn['port']}",
        f"Address = {', '.join(addresses(vpn))}",
    ]
    if vpn["mtu"]:
        lines.append(f"MTU = {vpn['mtu']}")
    for name, peer in sorted(vpn["peers"].items()):
        lines += ["", f"# {name}", "[Peer]", f"PublicKey = {peer['public_key']}"]
        if peer["preshared_key"]:
            lines.append(f"PresharedKey = {peer['preshared_key']}")
        lines.append(f"AllowedIPs = {', '.join(peer['addresses'])}")
        if peer["endpoint"]:
            lines.append(f"Endpoint = {peer['endpoint']}")
        lines.append(f"PersistentKeepalive = {_keepalive(vpn, peer)}")
    return "\n".join(lines) + "\n"


def _keepalive(vpn: Mapping[str, Any], peer: Mapping[str, Any]) -> int:
    return int(vpn["keepalive"] if peer["keepalive"] is None else peer["keepalive"])


def private_key(text: str | None) -> str | None:
    """Return the private key of a configuration, or None where there is none or it is damaged."""
    found = re.search(r"^[ \t]*PrivateKey[ \t]*=[ \t]*([A-Za-z0-9+/]{43}=)[ \t]*$", text or "", re.MULTILINE | re.I)
    return found.group(1) if found else None


def clamped(key: str) -> str:
    """Return a private key in the one spelling that an interface reports (RFC 7748 section 5, decodeScalar25519)."""
    raw = bytearray(base64.b64decode(key))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return base64.b64encode(raw).decode()


def shown(text: str) -> str:
    """Return a configuration as people may see it: of all keys only the public ones."""
    lines = [
        line if re.match(r"\s*PublicKey\s*=", line, re.I) else re.sub(r"[A-Za-z0-9+/]{42,}=*", "(a key)", line)
        for line in text.splitlines()
    ]
    return "\n".join(lines)


# A peer's own configuration.


def peer_configuration(vpn: Mapping[str, Any], name: str, host: Mapping[str, str], key: str) -> str:
    """Return what a peer's own wg-quick needs to reach the host.

    vpn, name
        The section of the pillar and the peer's name.
    host
        name, public_key and address (the one that is reached without the VPN) of the host.
    key
        The peer's private key, or words that stand for it.
    """
    peer = vpn["peers"][name]
    endpoint = f"[{host['address']}]" if ":" in host["address"] else host["address"]
    lines = [
        f"# {name} in the VPN of {host['name']}",
        "[Interface]",
        f"PrivateKey = {key}",
        f"Address = {', '.join(singles(peer))}",
    ]
    if vpn["mtu"]:
        lines.append(f"MTU = {vpn['mtu']}")
    lines += ["", "[Peer]", f"PublicKey = {host['public_key']}"]
    if peer["preshared_key"]:
        lines.append(f"PresharedKey = {peer['preshared_key']}")
    lines += [
        f"AllowedIPs = {', '.join(str(ipaddress.ip_interface(address).ip) for address in addresses(vpn))}",
        f"Endpoint = {endpoint}:{vpn['port']}",
        f"PersistentKeepalive = {_keepalive(vpn, peer)}",
    ]
    return "\n".join(lines) + "\n"


def singles(peer: Mapping[str, Any]) -> list[str]:
    """Return the addresses of a peer that are its own, without the networks behind it."""
    return [address for address in peer["addresses"] if address.endswith("/128" if ":" in address else "/32")]


def free_addresses(vpn: Mapping[str, Any]) -> list[str]:
    """Return the lowest address of each of the VPN's networks that nobody has, but the first: it is mostly a hub's."""
    taken = {address.split("/")[0] for peer in vpn["peers"].values() for address in singles(peer)}
    taken |= {address.split("/")[0] for address in addresses(vpn)}
    found = []
    for network in map(ipaddress.ip_network, networks(addresses(vpn))):
        hosts = map(str, itertools.islice(network.hosts(), 1, None))
        found += [next(address for address in hosts if address not in taken)]
    return found


def pillar_lines(name: str, public_key: str, own: Iterable[str] = ()) -> str:
    """Return the lines of the pillar that declare a peer's key, and its addresses when it is a new one."""
    lines = ["vpn:", "  peers:", f"    {name}:", f"      public_key: {public_key}"]
    if own:
        lines.append(f"      addresses: [{', '.join(map(repr, own))}]")
    return "\n".join(lines)


# What is there.


def parse_dump(dump: str) -> dict[str, Any]:
    """Return the interfaces as ``wg show all dump`` prints them, by name.

    Each has private_key, public_key, port and peers; a peer, by its public key, has preshared_key (None: none),
    endpoint, addresses, handshake (seconds since 1970, 0: none), received and sent (bytes), keepalive (0: none).
    """
    found: dict[str, Any] = {}
    for line in dump.splitlines():
        name, *words = line.split("\t")
        if name not in found:
            private, public, port, _ = words
            found[name] = {"private_key": private, "public_key": public, "port": int(port), "peers": {}}
            continue
        key, preshared, endpoint, allowed, handshake, received, sent, keepalive = words
        found[name]["peers"][key] = {
            "preshared_key": None if preshared == "(none)" else preshared,
            "endpoint": None if endpoint == "(none)" else endpoint,
            "addresses": [] if allowed == "(none)" else allowed.split(","),
            "handshake": int(handshake),
            "received": int(received),
            "sent": int(sent),
            "keepalive": 0 if keepalive == "off" else int(keepalive),
        }
    return found


def parse_link(links: Iterable[Mapping[str, Any]], interface: str) -> dict[str, Any] | None:
    """Return an interface's up, mtu and addresses from what ``ip -json address`` prints; None when it is not there."""
    for link in links:
        if link.get("ifname") == interface:
            own = [f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"] if entry["scope"] != "link"]
            return {"up": "UP" in link["flags"], "mtu": link["mtu"], "addresses": own}
    return None


def unreachable(routes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the networks that routes of the fence make unreachable, from what ``ip -json route`` prints."""
    return [
        str(ipaddress.ip_network(route["dst"]))
        for route in routes
        if route.get("type") == "unreachable" and route.get("metric") == METRIC
    ]


# What differs.


def choose_key(vpn: Mapping[str, Any], text: str | None, device: Mapping[str, Any] | None) -> tuple[str | None, str]:
    """Return the private key that the host should have, None when one must be made, and where it is from.

    A key that is in use is kept: every peer would have to learn a new one. Without one in the pillar it is that of the
    file, else that of the interface.

    text, device
        The file's text and the interface, None where there is none.

    Raises CommandExecutionError when there is a file without a key and no interface to have it from.
    """
    if vpn["private_key"]:
        return clamped(vpn["private_key"]), "as declared"
    if key := private_key(text):
        return clamped(key), "the same, spelled as wg does"
    if device and device["private_key"] != "(none)":
        return str(device["private_key"]), "that of the interface"
    if text is not None:
        raise CommandExecutionError(
            f"{DIRECTORY}/{vpn['interface']}.conf: has no private key; put it back, or remove the file to have one made"
        )
    return None, "made here"


def plan(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that bring the tunnel up as declared, by what changes.

    wanted
        vpn (the section of the pillar), private_key (None when one will be made) and source, where that key is from.
    found
        directory and file (what ``mailhost_file.look`` found), enabled (of the unit), active (of the unit), link and
        device (of the interface; None: it is not there).
    """
    vpn = wanted["vpn"]
    changes: dict[str, Any] = {}
    if found["directory"]["kind"] and _access(found["directory"]) != ("root", "root", "0700"):
        changes["directory"] = {"old": " ".join(_access(found["directory"])), "new": "root root 0700"}
    changes.update(_plan_file(wanted, found["file"]))
    if found["enabled"] != "enabled":
        changes["enabled"] = {"old": found["enabled"], "new": "enabled"}
    if found["active"] != "active" or found["link"] is None or found["device"] is None or not found["link"]["up"]:
        changes["interface"] = {"old": "down", "new": "up"}
    elif restart := plan_restart(vpn, found["link"]):
        changes["interface"] = f"restarted for {', '.join(restart)}"
    elif live := plan_live(vpn, wanted["private_key"], found["device"]):
        changes["interface"] = "\n".join(live)
    return changes


def _plan_file(wanted: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs in the file, its private key told apart from the rest."""
    old, key = file.get("text"), wanted["private_key"]
    new = configuration(wanted["vpn"], key or "(a key)")
    changes: dict[str, Any] = {}
    if key is None or private_key(old) != key:
        changes["private key"] = {"old": "another" if private_key(old) else None, "new": wanted["source"]}
    if shown(old or "") != shown(new):
        changes["configuration"] = mailhost_file.diff(shown(old or ""), shown(new))
    elif old != new and not changes:
        changes["configuration"] = "a preshared key"
    if old is not None and _access(file) != ("root", "root", "0600"):
        changes["access"] = {"old": " ".join(_access(file)), "new": "root root 0600"}
    return changes


def _access(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["user"]), str(entry["group"]), str(entry["mode"])


def plan_restart(vpn: Mapping[str, Any], link: Mapping[str, Any]) -> list[str]:
    """Return what of an interface that is up only a restart changes: its addresses and its MTU."""
    found = []
    if sorted(link["addresses"]) != sorted(addresses(vpn)):
        found.append(f"addresses {', '.join(link['addresses']) or 'none'} -> {', '.join(addresses(vpn))}")
    if vpn["mtu"] and link["mtu"] != vpn["mtu"]:
        found.append(f"MTU {link['mtu']} -> {vpn['mtu']}")
    return found


def plan_live(vpn: Mapping[str, Any], key: str | None, device: Mapping[str, Any]) -> list[str]:
    """Return what of an interface differs that ``wg syncconf`` changes without losing the tunnel, one line each."""
    found = []
    if device["private_key"] != key:
        found.append("private key")
    if device["port"] != vpn["port"]:
        found.append(f"port {device['port']} -> {vpn['port']}")
    declared = {peer["public_key"]: (name, peer) for name, peer in vpn["peers"].items()}
    found += [f"peer {public} removed: nobody declared it" for public in device["peers"] if public not in declared]
    for public, (name, peer) in sorted(declared.items(), key=lambda item: item[1][0]):
        now = device["peers"].get(public)
        if now is None:
            found.append(f"peer {name} added")
            continue
        if sorted(now["addresses"]) != sorted(peer["addresses"]):
            found.append(f"peer {name}: addresses {', '.join(now['addresses'])} -> {', '.join(peer['addresses'])}")
        if now["keepalive"] != _keepalive(vpn, peer):
            found.append(f"peer {name}: keepalive {now['keepalive']} -> {_keepalive(vpn, peer)}")
        if now["preshared_key"] != peer["preshared_key"]:
            found.append(f"peer {name}: preshared key")
    return found


def last_handshake(vpn: Mapping[str, Any], device: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the declared peer that shook hands last, and when (seconds since 1970); None when none has."""
    names = {peer["public_key"]: name for name, peer in vpn["peers"].items()}
    seen = [
        (peer["handshake"], names[public])
        for public, peer in device["peers"].items()
        if public in names and peer["handshake"]
    ]
    if not seen:
        return None
    when, name = max(seen)
    return name, when


def ago(seconds: float) -> str:
    """Return a length of time in its largest unit, rounded down: 12 s, 4 min, 3 h, 2 d."""
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {name}"
    return f"{max(0, int(seconds))} s"
