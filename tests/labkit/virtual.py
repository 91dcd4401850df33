"""A virtual machine as a lab host: a kernel of its own, and so what this machine's kernel does not give a container.

Disk quotas, limits on a control group's memory and processors, auditing, AppArmor, loadable modules, sysctls of its
own, GRUB. By KVM where that works, else by emulation, which is many times slower.
"""

from __future__ import annotations

import base64
import gzip
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from . import disk, guest, net, qemu, store, tree
from .host import Host
from .tools import LabError, require_programs, run

# Lets tests and audits that want a virtual machine have one. Not unasked: whether KVM works is found by trying, and
# what answers at /dev/kvm in a machine that is virtual itself may take that machine with it.
ASKED = "MAILHOST_LAB_VIRTUAL"
# Files go packed: the agent's line is slow, and it gives out 16 MiB of a command's output at most.
_SHELL = ("bash", "-euo", "pipefail", "-c")
_TAP = "tap"  # the machine's end of the cable, in its network namespace
_NETWORK = """[Match]
Name={interface}

[Network]
Address={ipv4}/24
Address={ipv6}/64
Gateway={gateway}
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
"""
_SCRIPT = """#!/bin/sh
# Runs the virtual machine {name}; written by labkit, which finds this process by the path of this file.
unplug() {{
{unplug}
}}
plug() {{
{plug}
}}
unplug 2>/dev/null
plug || exit 1
{qemu}
unplug 2>/dev/null
"""


class Virtual(Host):
    """A virtual machine of a lab. `root` is the directory of its disk, which is one file."""

    memory = 4096  # MiB, as the smallest VPS that this is for; what is not used takes none here

    def create(self, image: Path) -> None:
        """Make the disk from an image, with host keys, a machine id, the lab's key for root and the network's words."""
        unfinished = self.root.with_name(f"{self.machine}.unfinished")
        store.remove(unfinished)
        store.copy(image, unfinished)
        resolver = Path("/run/systemd/resolve/resolv.conf")  # what 127.0.0.53 stands for, which is not in there
        where = {"interface": net.INTERFACE, "gateway": net.gateway(self.address.slot)}
        files = {
            "/etc/machine-id": (uuid.uuid4().hex + "\n", 0o444),
            "/etc/resolv.conf": ((resolver if resolver.exists() else Path("/etc/resolv.conf")).read_text(), 0o644),
            "/root/.ssh/authorized_keys": ((self.directory / "id_ed25519.pub").read_text(), 0o600),
            "/etc/systemd/network/10-lab.network": (
                _NETWORK.format(ipv4=self.ipv4, ipv6=self.ipv6, **where), 0o644,
            ),
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "etc/ssh").mkdir(parents=True)
            run(["ssh-keygen", "-q", "-A", "-f", directory])
            for path in (Path(directory) / "etc/ssh").iterdir():
                files[f"/etc/ssh/{path.name}"] = (path.read_text(), path.stat().st_mode & 0o777)
        disk.write(unfinished / disk.NAME, files)
        (unfinished / "host_key").write_text(files["/etc/ssh/ssh_host_ed25519_key.pub"][0])
        unfinished.rename(self.root)

    def put(self, text: str, path: str, mode: int = 0o644) -> None:
        """Write a file of root's into the running machine; its directory is made if need be."""
        packed = base64.b64encode(gzip.compress(text.encode())).decode()
        unpack = 'base64 -d | gunzip | install -D -m "$0" /dev/stdin "$1"'
        self.run([*_SHELL, unpack, f"{mode:04o}", path], input=packed)

    def read(self, path: str) -> str:
        """Return the text of a file of the running machine."""
        return gzip.decompress(base64.b64decode(self.run([*_SHELL, 'gzip -c "$0" | base64', path]).stdout)).decode()

    def tree_hash(self, exclude: Iterable[str] = ()) -> dict[str, tree.Entry]:
        """Refuse: the files are in a file system of the machine's own."""
        raise LabError(f"{self.name} is a virtual machine: its files cannot be looked at from outside")

    @property
    def host_key(self) -> str:
        """The public ed25519 host key, without its comment."""
        return " ".join((self.root / "host_key").read_text().split()[:2])

    @property
    def patience(self) -> int:
        """How many times as long as on a container everything may take."""
        return 1 if qemu.kvm() else 8

    # --- power

    def boot(self, timeout: float = 60, *, port: int | None = 22) -> None:
        """Switch it on and wait until it runs. Params as `wait_running`; emulated, it has eight times as long."""
        require_programs(qemu.PROGRAM)
        super().boot(timeout * self.patience, port=port)

    def reboot(self, timeout: float = 90, *, port: int | None = 22) -> None:
        """Reboot it from inside, cleanly, and wait until it runs again. Params and errors as `boot`."""
        end = time.monotonic() + timeout * self.patience
        before = self.boot_id()
        self.run(["systemctl", "--no-block", "reboot"], check=False)
        while not self._alive() or self._boot_id() in (before, ""):
            if time.monotonic() > end or not self.running():
                raise LabError(f"host {self.name} did not come back from its reboot: see {self.log}")
            time.sleep(0.2)
        self.wait_running(end - time.monotonic(), port=port)

    def pid1(self) -> NoReturn:
        """Refuse: no process of the machine is one of this machine's."""
        raise LabError(f"{self.name} is a virtual machine: its processes are not this machine's")

    def enter(self) -> list[str]:
        """Return the words to put before a command so that it runs inside, to be given `ENVIRONMENT`."""
        return [sys.executable, guest.__file__, str(self._socket)]

    # --- helpers

    def _alive(self) -> bool:
        try:
            guest.ask(self._socket, "guest-ping", timeout=1)
        except guest.Silent:
            return False
        return True

    def _boot_id(self) -> str:
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"], check=False).stdout.strip()

    @property
    def _socket(self) -> Path:
        return self.directory / f"{self.name}.agent"

    def _boot_script(self) -> str:
        mac = f"52:54:00:d5:{self.address.slot:02x}:{self.address.index:02x}"
        machine = qemu.words(self.root / disk.NAME, self.log, self.memory)
        start = ["nsenter", f"--net={self.address.handle}", *machine, *qemu.link(_TAP, mac), *qemu.agent(self._socket)]
        return _SCRIPT.format(
            name=self.machine,
            unplug="\n".join(f"    {shlex.join(command)}" for command in self.address.unplug()),
            plug=" &&\n".join(f"    {shlex.join(command)}" for command in self.address.plug_tap(_TAP)),
            qemu=shlex.join(start),
        )
