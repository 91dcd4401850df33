"""One lab host: its file tree, booting it, commands in it, and the ways to stop it."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import boot, net, procs, store, tree
from .tools import LabError, run

# Where sudo, cron and sshd look on Debian.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash",
                "LANG": "C.UTF-8"}  # fmt: skip
# The command leaves this machine's cgroup for one of the host's, outside every unit and every login session.
_ENTER = 'mkdir -p /sys/fs/cgroup/lab 2>/dev/null; echo $$ 2>/dev/null >/sys/fs/cgroup/lab/cgroup.procs; exec "$@"'


class Host:
    """A Debian host of a lab.

    `root` is its file tree on this machine; `ipv4` and `ipv6` are its addresses in the lab's network.
    """

    environment = _ENVIRONMENT

    def __init__(self, directory: Path, name: str, address: net.Address) -> None:
        """Params: directory, the lab's; name; address, its place in the lab's network. Nothing is made yet."""
        self.directory = directory
        self.name = name
        self.address = address
        self.ipv4, self.ipv6 = address.ipv4, address.ipv6
        self.machine = f"{directory.name}.{name}"
        self.root = store.trees() / self.machine
        self.log = directory / f"{name}.log"
        self._script = directory / f"{name}.boot"

    # --- its files

    def create(self, image: Path) -> None:
        """Make the file tree from a base image, with host keys, a machine id and the lab's key for root."""
        store.remove(self.root)
        store.copy(image, self.root)
        (self.root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        run(["ssh-keygen", "-q", "-A", "-f", self.root])
        resolver = Path("/run/systemd/resolve/resolv.conf")  # what 127.0.0.53 stands for, which is not in there
        shutil.copyfile(resolver if resolver.exists() else "/etc/resolv.conf", self.root / "etc/resolv.conf")
        self.put((self.directory / "id_ed25519.pub").read_text(), "/root/.ssh/authorized_keys", 0o600)

    def put(self, text: str, path: str, mode: int = 0o644) -> None:
        """Write a file of root's, from outside; its directory is made if need be."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """Return the text of a file, from outside."""
        return self._inside(path).read_text()

    def tree_hash(self, exclude: Iterable[str] = ()) -> dict[str, tree.Entry]:
        """Return what the whole file system is; see `tree.tree_hash`."""
        return tree.tree_hash(self.root, exclude)

    def snapshot(self, name: str) -> None:
        """Keep the file tree as it is now; of a running host, as a power cut would leave it."""
        store.remove(self._snapshot(name))
        store.copy(self.root, self._snapshot(name))

    def restore(self, name: str) -> None:
        """Put the file tree back to a snapshot. A running host loses power and is booted again."""
        if not self._snapshot(name).exists():
            raise LabError(f"host {self.name} has no snapshot {name}")
        running = self.running()
        if running:
            self.power_cut()
        store.remove(self.root)
        store.copy(self._snapshot(name), self.root)
        if running:
            self.boot()

    def remove(self) -> None:
        """Cut the power and remove the file tree and its snapshots."""
        self.power_cut()
        for path in (self.root, *self.root.parent.glob(f"{self.machine}@*")):
            store.remove(path)

    @property
    def host_key(self) -> str:
        """The public ed25519 host key, without its comment."""
        return " ".join(self.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    # --- power

    def boot(self, timeout: float = 60, *, port: int | None = 22) -> None:
        """Switch it on and wait until it runs; nothing to do when it is on. Params as `wait_running`."""
        if not self.running():
            self._script.write_text(boot.script(self.machine, self.root, self.address))
            with self.log.open("a") as log:
                subprocess.Popen(
                    ["sh", str(self._script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    cwd="/",
                )  # fmt: skip
        self.wait_running(timeout, port=port)

    def wait_running(self, timeout: float = 60, *, port: int | None = 22) -> None:
        """Wait until systemd says running and sshd answers.

        Params: timeout in seconds; port sshd answers on at the host's own address, None not to ask.
        Raises: LabError when a unit failed, when the host is off, or when it takes longer.
        """
        end = time.monotonic() + timeout
        state = "off"
        while time.monotonic() < end:
            if not self.running() and state != "off":
                raise LabError(f"host {self.name} went off while it booted: see {self.log}")
            if self.pid1() is not None:
                state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip() or "booting"
            if state == "degraded":
                failed = self.run(["systemctl", "--failed", "--plain", "--no-legend"], check=False).stdout.strip()
                raise LabError(f"host {self.name} runs with failed units: {failed}")
            if state == "running" and (port is None or self.answers(port)):
                return
            time.sleep(0.05)
        raise LabError(f"host {self.name} is not up after {timeout} s (state: {state}): see {self.log}")

    def reboot(self, timeout: float = 90, *, port: int | None = 22) -> None:
        """Reboot it from inside, cleanly, and wait until it runs again. Params as `wait_running`."""
        before = self.pid1()
        self.run(["systemctl", "reboot"], check=False)
        end = time.monotonic() + timeout
        while self.pid1() in (before, None):
            if time.monotonic() > end or not self.running():
                raise LabError(f"host {self.name} did not reboot: see {self.log}")
            time.sleep(0.05)
        self.wait_running(end - time.monotonic(), port=port)

    def power_off(self, timeout: float = 60) -> None:
        """Shut it down from inside, cleanly; nothing to do when it is off."""
        if not self.running():
            return
        self.run(["systemctl", "poweroff"], check=False)
        end = time.monotonic() + timeout
        while self.running():
            if time.monotonic() > end:
                raise LabError(f"host {self.name} does not shut down: see {self.log}")
            time.sleep(0.05)

    def power_cut(self) -> None:
        """Kill it with everything in it, at once; nothing to do when it is off."""
        # The loop first, or it would boot the host again.
        procs.kill_all(self._is_supervisor)
        procs.kill_all(self._is_part)
        net.do(self.address.unplug(), check=False)

    def running(self) -> bool:
        """Return whether it is switched on."""
        return any(self._is_supervisor(pid) for pid in procs.pids())

    def pid1(self) -> int | None:
        """Return the number its init has on this machine; None while there is none."""
        for pid in procs.pids():
            if procs.in_namespace(pid, self.address.handle) and procs.is_init(pid):
                # nspawn's own child has this place before it becomes systemd.
                return pid if procs.command_line(pid)[:1] in (["/usr/lib/systemd/systemd"], ["/sbin/init"]) else None
        return None

    # --- commands

    def run(
        self, argv: Sequence[str], input: str | None = None, check: bool = True, timeout: float | None = None  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without the network and without a login session.

        Params as `tools.run`. Raises: LabError when it fails and `check` is true, or when the host is off.
        """
        return run([*self.enter(), *argv], input=input, check=check, timeout=timeout, env=_ENVIRONMENT)

    def enter(self) -> list[str]:
        """Return the words to put before a command so that it runs inside.

        Raises: LabError when the host is off.
        """
        pid = self.pid1()
        if pid is None:
            raise LabError(f"host {self.name} is off")
        return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "sh", "-c", _ENTER, "sh"]

    def ssh(
        self,
        argv: Sequence[str],
        user: str = "root",
        port: int = 22,
        from_namespace: str | None = None,
        *,
        address: str | None = None,
        check: bool = True,
        input: str | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over the wire, with the lab's key and the host's key pinned.

        Params: argv; user; port; from_namespace, the name of a namespace of the lab to come from (else this machine);
        address to use (else the host's IPv4 one); the rest as `tools.run`.
        """
        source = []
        if from_namespace is not None:
            source = ["nsenter", f"--net={net.Address(self.address.slot, from_namespace, 0).handle}"]
        command = [*self.ssh_command(user, port, address), shlex.join(argv)]
        return run([*source, *command], check=check, input=input, timeout=timeout)

    def ssh_command(self, user: str = "root", port: int = 22, address: str | None = None) -> list[str]:
        """Return the ssh command that logs in, for a shell or with a command added."""
        known = self.directory / "known_hosts"
        options = {"IdentitiesOnly": "yes", "BatchMode": "yes", "ConnectTimeout": "10", "StrictHostKeyChecking": "yes",
                   "UserKnownHostsFile": known, "GlobalKnownHostsFile": "/dev/null", "HostKeyAlias": self.name,
                   "LogLevel": "ERROR"}  # fmt: skip
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        key = str(self.directory / "id_ed25519")
        return ["ssh", "-F", "/dev/null", "-i", key, *words, "-p", str(port), f"{user}@{address or self.ipv4}"]

    def answers(self, port: int) -> bool:
        """Return whether an SSH server answers on a port, asked from this machine."""
        try:
            with socket.create_connection((self.ipv4, port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    # --- helpers

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _snapshot(self, name: str) -> Path:
        return self.root.with_name(f"{self.machine}@{name}")

    def _is_supervisor(self, pid: int) -> bool:
        return procs.command_line(pid) == ["sh", str(self._script)]

    def _is_part(self, pid: int) -> bool:
        """Return whether a process is this host's nspawn or in its network namespace."""
        line = procs.command_line(pid)
        nspawn = os.path.basename(line[0]) == "systemd-nspawn" if line else False
        return (nspawn and str(self.root) in line) or procs.in_namespace(pid, self.address.handle)
