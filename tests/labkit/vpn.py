"""The operator's workstation inside the VPN: a peer in a namespace of the lab, with WireGuard of this machine."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from . import procs
from .lab import Lab, Namespace
from .tools import LabError, require_programs, run

PLACEHOLDER = "<put your private key here>"


class Peer:
    """A peer of the VPN of the lab's hosts.

    `namespace` is where it is (to run salt-ssh in), `public_key` and `pillar` what the host has to know of it.
    """

    def __init__(self, lab: Lab, name: str, addresses: tuple[str, ...] = ("10.100.0.2",)) -> None:
        """Make the namespace and, unless the lab knows it, a key pair.

        Params: lab; name, of the peer and its namespace; addresses it has in the VPN.
        """
        require_programs("wg", "wg-quick", "wireguard-go", "ping")
        self.name, self.addresses = name, addresses
        self.namespace: Namespace = lab.namespace(name)
        # The sockets of wireguard-go are files of this machine: the name must be no other lab's.
        self.interface = f"mhwg{lab.slot}p{self.namespace.address.index}"
        self._key = lab.directory / f"{self.interface}.key"
        self._configuration = lab.directory / f"{self.interface}.conf"
        if not self._key.exists():
            self._key.touch(0o600)
            self._key.write_text(run(["wg", "genkey"]).stdout)

    @property
    def public_key(self) -> str:
        """The public half of its key."""
        return run(["wg", "pubkey"], input=self._key.read_text()).stdout.strip()

    def pillar(self) -> dict[str, Any]:
        """Return what goes into the pillar under vpn.peers."""
        return {self.name: {"public_key": self.public_key, "addresses": list(self.addresses)}}

    def connect(self, configuration: str, *, wait: float = 30) -> None:
        """Bring the tunnel up, anew if it is up, and wait for a handshake.

        Params: configuration, what mailhost_vpn.peer_config printed (with a private key of its own, or the words that
        stand for ours); wait in seconds, 0 not to wait.
        Raises: LabError when there is no handshake within that time.
        """
        self.disconnect()
        self._configuration.touch(0o600)
        self._configuration.write_text(configuration.replace(PLACEHOLDER, self._key.read_text().strip()))
        self.namespace.run(["wg-quick", "up", str(self._configuration)])
        if not wait:
            return
        end = time.monotonic() + wait
        while not self.handshake():
            if time.monotonic() > end:
                raise LabError(f"{self.name}: no handshake within {wait:.0f} s")
            time.sleep(0.2)

    def disconnect(self) -> None:
        """Take the tunnel down; nothing to do when it is down."""
        if self.interface in self.namespace.run(["ip", "-br", "link"]).stdout:
            self.namespace.run(["wg-quick", "down", str(self._configuration)])
        # wireguard-go may outlive its device, and its successor does not start beside it.
        procs.kill_all(lambda pid: procs.command_line(pid) == ["wireguard-go", self.interface])
        with contextlib.suppress(FileNotFoundError):
            self._configuration.unlink()

    def handshake(self) -> int:
        """Return when it last shook hands with the host, in seconds since 1970; 0 when it has not."""
        lines = self.namespace.run(["wg", "show", self.interface, "latest-handshakes"]).stdout.split()
        return int(lines[1]) if lines else 0

    def reaches(self, address: str) -> bool:
        """Return whether an address answers a ping from it."""
        return self.namespace.run(["ping", "-n", "-c", "1", "-W", "2", address], check=False).returncode == 0
