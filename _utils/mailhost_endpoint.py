"""The ways into a host, in the order they are tried. Pure: what is tried and with which options, not the trying.

A finished host answers as the admin on its VPN address, a fresh one as root on its public address; the same
``salt-ssh mail`` has to find it before, between and after.
"""

import dataclasses
import ipaddress
import re
import shlex
from collections.abc import Mapping
from typing import Any

CONNECT_SECONDS = 3
# How long the VPN is waited for once the public address has answered: a handshake of WireGuard and TCP's take three
# round trips, and a VPN that is not up at all must not cost every run CONNECT_SECONDS (RFC 8305 for the idea).
HEAD_START_SECONDS = 1


class InvalidRoster(ValueError):
    """The roster cannot be used; the message begins with the host's id and the key."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One host of etc/salt/roster."""

    id: str
    addresses: tuple[str, ...]
    environment: str
    port: int | None = None
    user: str | None = None
    host_key: str | None = None
    priv: str | None = None


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One way in: where, as whom, and by which network."""

    address: str
    port: int
    user: str
    network: str

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}:{self.port} ({self.network})"


def parse_host(host_id: str, raw: Any) -> Host:
    """Return the host that one entry of the roster describes.

    Raises InvalidRoster for unknown keys, for an entry without ``host`` or ``environment``, and for values that are no
    address, port or text.
    """
    if not isinstance(raw, Mapping):
        raise InvalidRoster(f"{host_id}: is not a section of keys such as host: and environment:")
    known = {"host", "environment", "port", "user", "host_key", "priv"}
    for name in raw:
        if name not in known:
            raise InvalidRoster(f"{host_id}.{name}: no such key; here are {', '.join(sorted(known))}")
    for name in ("host", "environment"):
        if not raw.get(name):
            raise InvalidRoster(f"{host_id}.{name}: is missing")
    hosts = raw["host"] if isinstance(raw["host"], list) else [raw["host"]]
    addresses = []
    for address in hosts:
        try:
            addresses.append(str(ipaddress.ip_address(str(address))))
        except ValueError:
            raise InvalidRoster(f"{host_id}.host: {address!r} is not an IP address") from None
    port = raw.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        raise InvalidRoster(f"{host_id}.port: {port!r} is not a port number from 1 to 65535")
    if raw.get("priv") and (said := unsendable(str(raw["priv"]))):
        raise InvalidRoster(f"{host_id}.priv: {said}")
    return Host(
        host_id,
        tuple(addresses),
        str(raw["environment"]),
        port,
        raw.get("user"),
        raw.get("host_key"),
        raw.get("priv"),
    )


def unsendable(path: str) -> str:
    """Return why Salt cannot work with a path, "" when it can: it gives paths to a shell as they are."""
    wrong = sorted(set(re.findall(r"[\s'\"\\$`&|;<>()*?\[\]]", path)))
    if not wrong:
        return ""
    named = " and ".join("a space" if sign.isspace() else sign for sign in wrong)
    return f"{path}: has {named} in it, and salt-ssh cannot send files from there"


def candidates(host: Host, pillar: Mapping[str, Any]) -> list[Endpoint]:
    """Return the ways into a host, the one of the finished host first: VPN before public, admin before root.

    A port or user that the roster names says how a host that is not finished is entered: it takes the place of what is
    tried on the public side otherwise. A finished one lets in the admin alone, on ``ssh.port``: tried last then.
    Root is tried only on port 22 or that one: no state of ours ever leaves it open on another.
    """
    admin = pillar["access"]["admin"]["name"]
    port = pillar["ssh"]["port"]
    vpn = [pillar["vpn"]["address"], pillar["vpn"]["address6"]]
    found = [Endpoint(cidr.split("/")[0], port, admin, "VPN") for cidr in vpn if cidr]
    ways = [(host.port, host.user or admin)] if host.port else [(port, host.user or admin), (22, host.user or admin)]
    if not host.user:
        ways.append((host.port or 22, "root"))
    if (port, admin) not in ways:
        ways.append((port, admin))
    found += [Endpoint(address, way, user, "public") for way, user in ways for address in host.addresses]
    return found


def ssh_options(host: Host, known_hosts: str, control_path: str) -> list[str]:
    """Return ssh's options for a host, as ``-o`` takes them.

    One name for the host key whatever the endpoint (HostKeyAlias), the key pinned or kept at first contact, one kept
    connection for the handful of commands that a run needs, and an end to a connection whose host is gone.
    """
    return [
        f"HostKeyAlias={host.id}",
        f"UserKnownHostsFile={shlex.quote(known_hosts)}",
        "GlobalKnownHostsFile=/dev/null",
        f"StrictHostKeyChecking={'yes' if host.host_key else 'accept-new'}",
        "UpdateHostKeys=no",
        "BatchMode=yes",
        "ControlMaster=auto",
        f"ControlPath={shlex.quote(control_path)}",
        "ControlPersist=30",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "LogLevel=ERROR",
    ]
