"""A lab: some hosts, some namespaces, one network; up for the length of a with statement, or until taken down."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import disk, net, procs, store
from .apt import read_apt
from .base import base
from .host import Host
from .tools import LabError, cache_dir, locked, require_programs, require_root, run
from .virtual import Virtual

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_FIRST_INDEX = 10  # of a host's or namespace's address; the gateway is .1


class Namespace:
    """A machine that only looks on: a network namespace on the lab's bridge with this machine's file system."""

    def __init__(self, address: net.Address) -> None:
        """Params: address, its place in the lab's network."""
        self.address = address
        self.ipv4, self.ipv6 = address.ipv4, address.ipv6

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine in the namespace. Params as `tools.run`."""
        return run([*self.enter(), *argv], input=input, check=check, timeout=timeout)

    def enter(self) -> list[str]:
        """Return the words to put before a command so that it runs in the namespace."""
        return ["nsenter", f"--net={self.address.handle}"]


class Lab:
    """A lab, identified by its name within the cache directory."""

    def __init__(self, name: str, *, persistent: bool = False) -> None:
        """Open a lab, making it when there is none of that name.

        Params: name; persistent, whether a new lab outlives this process.
        Raises: LabError when the name is no good, or the lab belongs to another living process.
        """
        require_root()
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a lab: use small letters, digits and dashes")
        require_programs("ip", "iptables", "ip6tables", "systemd-nspawn", "ssh", "ssh-keygen", "nsenter", "setpriv")
        self.name = name
        self.directory = _labs() / name
        self.key = self.directory / "id_ed25519"
        Lab.reap()
        with locked(cache_dir() / "labs.lock"):
            if not self._state_file.exists():
                self._create(persistent)
            state = self._state()
            owner = procs.Owner(**state["owner"])
            if not state["persistent"] and owner != procs.Owner.this():
                raise LabError(f"the lab {name} belongs to process {owner.pid}: choose another name")
            # After a restart of this machine another lab may have the slot: then the addresses change.
            self.slot = net.claim(self.directory, state["slot"])
            if self.slot != state["slot"]:
                _write(self._state_file, {**state, "slot": self.slot})
            net.up(self.slot, read_apt().ports())

    def host(self, name: str, base: Path | None = None) -> Host:
        """Return the host of a name, made from a base image (the usual one if none is given) when it is new.

        It is not booted.
        """
        made = Host(self.directory, name, self._address("hosts", name))
        if not made.root.exists():
            made.create(base or _base())
        self._write_lists()
        return made

    def virtual(self, name: str) -> Virtual:
        """Return the virtual machine of a name, made when it is new. It is not booted."""
        made = Virtual(self.directory, name, self._address("hosts", name))
        if not made.root.exists():
            made.create(disk.image())
        self._write_lists()
        return made

    def namespace(self, name: str) -> Namespace:
        """Return the namespace of a name on the lab's network, made when it is new."""
        address = self._address("namespaces", name)
        if not os.path.ismount(address.handle):  # Path.is_mount() knows only directories before Python 3.12
            net.do(address.unplug(), check=False)
            net.do(address.plug())
        return Namespace(address)

    def hosts(self) -> dict[str, Host]:
        """Return all hosts by name."""
        return Lab.hosts_of(self.name)

    def down(self) -> None:
        """Remove the lab with everything in it; doing it twice is fine."""
        Lab.remove(self.name)

    def __enter__(self) -> Self:
        """Return the lab itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the lab down, whatever happened."""
        self.down()

    @staticmethod
    def names() -> list[str]:
        """Return the names of all labs in the cache directory."""
        return sorted(path.parent.name for path in _labs().glob("*/state.json"))

    @staticmethod
    def place(name: str) -> Path:
        """Return the directory of a lab."""
        return _labs() / name

    @staticmethod
    def hosts_of(name: str) -> dict[str, Host]:
        """Return the hosts of a lab by name, also of one that another process has."""
        state = json.loads((Lab.place(name) / "state.json").read_text())
        return {
            host: _host(Lab.place(name), host, net.Address(state["slot"], host, index))
            for host, index in state["hosts"].items()
        }

    @staticmethod
    def remove(name: str) -> None:
        """Remove a lab with everything in it, also one that another process has; no such lab is fine."""
        with locked(cache_dir() / "labs.lock"):
            _down(Lab.place(name))

    @staticmethod
    def reap() -> None:
        """Take down the labs whose process is gone, and networks whose lab is gone."""
        with locked(cache_dir() / "labs.lock"):
            for directory in _labs().glob("*"):
                if _orphaned(directory):
                    _down(directory)
            for slot, directory in net.claims().items():
                if not directory.exists():
                    net.down(slot)

    @staticmethod
    def down_all() -> None:
        """Take down every lab of the cache directory, whoever's it is; base images stay."""
        require_root()
        with locked(cache_dir() / "labs.lock"):
            for directory in _labs().glob("*"):
                _down(directory)
        Lab.reap()
        store.unmount()

    # --- what is written down

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            raise LabError(f"there is no lab {self.name}") from None
        return state

    def _create(self, persistent: bool) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{self.name}", "-f", self.key])
        slot = net.claim(self.directory)
        owner = procs.Owner.this().data()
        _write(
            self._state_file,
            {"slot": slot, "persistent": persistent, "owner": owner, "hosts": {}, "namespaces": {}},
        )

    def _address(self, kind: str, name: str) -> net.Address:
        """Return the address of a host or namespace, the next free one for a new name."""
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a host: use small letters, digits and dashes")
        with locked(cache_dir() / "labs.lock"):
            state = self._state()
            taken = {**state["hosts"], **state["namespaces"]}
            if name not in state[kind]:
                if name in taken:
                    raise LabError(f"{name} is already the name of something else in the lab {self.name}")
                state[kind][name] = max(taken.values(), default=_FIRST_INDEX - 1) + 1
                _write(self._state_file, state)
            return net.Address(state["slot"], name, state[kind][name])

    def _write_lists(self) -> None:
        """Write what others need to log in: hosts.json, and known_hosts for ssh."""
        hosts = {name: host for name, host in self.hosts().items() if host.root.exists()}
        known = "".join(f"{name},{host.ipv4},{host.ipv6} {host.host_key}\n" for name, host in hosts.items())
        (self.directory / "known_hosts").write_text(known)
        _write(
            self.directory / "hosts.json",
            {
                name: {"ipv4": host.ipv4, "ipv6": host.ipv6, "port": 22, "user": "root", "key": str(self.key),
                       "host_key": host.host_key}
                for name, host in hosts.items()
            },
        )  # fmt: skip


_base = base  # the parameter of Lab.host has the same name


def _host(directory: Path, name: str, address: net.Address) -> Host:
    """Return a host as what it was made: a container or a virtual machine."""
    made = Host(directory, name, address)
    return Virtual(directory, name, address) if (made.root / disk.NAME).exists() else made


def _labs() -> Path:
    place = cache_dir() / "labs"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _orphaned(directory: Path) -> bool:
    """Return whether nobody will ever take the lab down."""
    try:
        state = json.loads((directory / "state.json").read_text())
    except FileNotFoundError:
        return True  # its maker died before it wrote anything down; it holds the lock as long as it lives
    return not state["persistent"] and not procs.Owner(**state["owner"]).alive()


def _down(directory: Path) -> None:
    """Remove a lab by its directory; the caller holds the lock."""
    if not directory.exists():
        return
    written = directory / "state.json"
    state = json.loads(written.read_text()) if written.exists() else {"hosts": {}}
    for name, index in state["hosts"].items():
        Host(directory, name, net.Address(state["slot"], name, index)).remove()
    for slot, claimed in net.claims().items():
        if claimed == directory:
            net.down(slot)
    shutil.rmtree(directory)


def _write(path: Path, data: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(data, indent=2) + "\n")
    unfinished.rename(path)
