"""What of a host is reached, port by port: scans from namespaces of the lab, held against what the pillar declares."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import scan
from .host import Host
from .lab import Namespace
from .machine import ENVIRONMENT
from .tools import LabError

Ports = dict[str, set[int]]
HEADER = ("from", "at", "protocol", "reached", "declared", "")
ALL = range(1, 65536)
ROUNDS = 20  # of 65535 datagrams at once a userspace tunnel has dropped a third, on a quiet machine
_SCAN = scan.__file__
_COPY = "/root/labkit-scan.py"  # in a host


@dataclass(frozen=True)
class Exposure:
    """One scan of all ports: from where, at which address, by which protocol, what was reached and what may be."""

    vantage: str
    address: str
    protocol: str
    reached: frozenset[int]
    declared: frozenset[int]

    @property
    def exact(self) -> bool:
        """Whether just the declared ports were reached."""
        return self.reached == self.declared

    def row(self) -> tuple[str, ...]:
        """Return the scan as a row of a table, in the order of HEADER."""
        verdict = "" if self.exact else "NOT AS DECLARED"
        return self.vantage, self.address, self.protocol, _said(self.reached), _said(self.declared), verdict

    def __str__(self) -> str:
        return " ".join(self.row())


def declared(pillar: Mapping[str, Any], *, vpn: bool, ssh: Iterable[int] = ()) -> dict[str, frozenset[int]]:
    """Return the ports that may be reached, by protocol.

    Params: pillar, whole and parsed; vpn, whether from inside the VPN; ssh, the ports that sshd still has on the public
    side.
    """
    import mailhost_firewall

    rows = mailhost_firewall.matrix(mailhost_firewall.declared(pillar))
    may = [(row["protocol"], row["port"]) for row in rows if vpn or row["from"] == "public"]
    may += [("tcp", port) for port in ssh]
    return {name: frozenset(port for protocol, port in may if protocol == name) for name in ("tcp", "udp")}


def tcp(namespace: Namespace, host: Host, addresses: Sequence[str]) -> Ports:
    """Return by address of a host the ports that took or refused a connection: all 65535 are tried."""
    return _scanned(namespace, host, "tcp", addresses, [])


def udp(namespace: Namespace, host: Host, addresses: Sequence[str], container: str) -> Ports:
    """Return by address of a host, and of a container there, the ports that a datagram reached: all 65535 are tried."""
    return _scanned(namespace, host, "udp", addresses, [_behind(host), _behind_container(host, container)])


def _scanned(
    namespace: Namespace, host: Host, protocol: str, addresses: Sequence[str], behind: Sequence[Sequence[str]]
) -> Ports:
    """Scan until each port has been tried: what has not come as far as the host's interface is tried again.

    Params: behind, by words as of ``_behind`` the places where to watch what a datagram reaches.
    Raises: LabError when some ports cannot be tried.
    """
    reached: Ports = {}
    left = {address: set(ALL) for address in addresses}
    for _ in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            watching = [stack.enter_context(_watching(words, "reached")) for words in behind]
            before = stack.enter_context(_watching(_behind(host), "arrived"))
            trying = json.dumps({address: sorted(ports) for address, ports in left.items()})
            found = [_ports(namespace.run([sys.executable, _SCAN, protocol], input=trying).stdout)]
            found += [_ports(watcher.communicate()[0]) for watcher in watching]
            arrived = _ports(before.communicate()[0])
        for address, ports in (pair for one in found for pair in one.items()):
            reached.setdefault(address, set()).update(ports)
        left = {address: missing for address, ports in left.items() if (missing := ports - arrived.get(address, set()))}
        if not left:
            return reached
    said = ", ".join(f"{address} {protocol} {_said(ports)}" for address, ports in left.items())
    raise LabError(f"{host.name}: what was sent in {ROUNDS} rounds did not arrive: {said}")


def _behind(host: Host) -> list[str]:
    """Return the words to put before a command so that it runs in the network of a host, with this machine's files."""
    return ["nsenter", f"--net={host.address.handle}"]


def _behind_container(host: Host, container: str) -> list[str]:
    """Return the same for a container of a host; the scanner is put into the host, which has its own files."""
    host.put(Path(_SCAN).read_text(), _COPY)
    sandbox = host.run(["docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container]).stdout.strip()
    return [*host.enter(), "nsenter", f"--net={sandbox}"]


@contextlib.contextmanager
def _watching(words: Sequence[str], what: str) -> Iterator[subprocess.Popen[str]]:
    """Run a watcher somewhere; it ends with its standard input."""
    program = [sys.executable, _SCAN] if words[1].startswith("--net=") else ["python3", _COPY]
    process = subprocess.Popen(
        [*words, *program, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def _ports(text: str) -> Ports:
    return {address: set(ports) for address, ports in json.loads(text).items()}


def _said(ports: Iterable[int]) -> str:
    """Return ports for people, a long list cut short."""
    words = [str(port) for port in sorted(ports)]
    return ", ".join(words) if len(words) <= 12 else f"{', '.join(words[:10])} … ({len(words)})"
