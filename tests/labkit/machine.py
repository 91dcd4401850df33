"""A host as something that runs: switching it on and off, and commands inside it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import boot, net, procs, store
from .tools import LabError, run

# What cron and sudo give a command, so that nothing of this machine's environment gets in.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}
# The command leaves this machine's cgroup for one of the host's, outside every unit and every login session.
# This shell waits for it from outside the host's PID namespace. nsenter's own way of waiting stops when the command is
# stopped, as systemd stops everything before it shuts down: then nobody collects it, and the host never ends (seen).
_ENTER = (
    'mkdir -p /sys/fs/cgroup/lab 2>/dev/null; echo 0 2>/dev/null >/sys/fs/cgroup/lab/cgroup.procs; env -- "$@"; exit $?'
)
# nsenter keeps this machine's capabilities; with this one a command inside sets this machine's clock.
_NO_CLOCK = ["setpriv", f"--bounding-set=-{boot.NOT_GIVEN}", f"--inh-caps=-{boot.NOT_GIVEN}"]
_PAUSE = 0.05


class Machine:
    """A host's running side; `root` is its file tree, `ipv4` and `ipv6` its addresses, `log` what its console says."""

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

    @property
    def patience(self) -> int:
        """How many times as long as on a container everything may take."""
        return 1

    # --- power

    def boot(self, timeout: float = 60, *, port: int | None = 22) -> None:
        """Switch it on and wait until it runs; when it is on, only wait. Params and errors as `wait_running`."""
        if not self.running():
            self._script.write_text(self._boot_script())
            with self.log.open("a") as log:
                # In a session of its own, and nobody's child: it may outlive this process.
                subprocess.run(
                    ["setsid", "--fork", "sh", self._script],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    check=True,
                )
        self.wait_running(timeout, port=port)

    def wait_running(self, timeout: float = 60, *, port: int | None = 22) -> None:
        """Wait until systemd says running and sshd answers.

        Params: timeout in seconds; port sshd answers on at the host's own address, None not to ask.
        Raises: LabError when a unit failed, when the host went off, or when it takes longer.
        """
        begin = time.monotonic()
        end = begin + timeout
        state = "off"
        while time.monotonic() < end:
            if self._alive():
                state = self._state(end - time.monotonic())
            elif time.monotonic() - begin > 1 and not self.running():
                raise LabError(f"host {self.name} is off, or went off while it booted: see {self.log}")
            if state == "degraded":
                failed = self.run(["systemctl", "--failed", "--plain", "--no-legend"], check=False).stdout.strip()
                raise LabError(f"host {self.name} runs with failed units: {failed}")
            if state == "running" and (port is None or self.answers(port)):
                return
            time.sleep(_PAUSE)
        raise LabError(f"host {self.name} is not up after {timeout:.0f} s (state: {state}): see {self.log}")

    def reboot(self, timeout: float = 90, *, port: int | None = 22) -> None:
        """Reboot it from inside, cleanly, and wait until it runs again. Params and errors as `wait_running`."""
        end = time.monotonic() + timeout
        before = self.pid1()
        self.run(["systemctl", "--no-block", "reboot"], check=False)
        # Seen from outside: systemd waits for the end of every process in there, and is not told of that of one which
        # has its parent here, so asking inside would hold up the shutdown by half a minute and more (seen).
        while self.pid1() in (before, None):
            if time.monotonic() > end or not self.running():
                raise LabError(f"host {self.name} did not come back from its reboot: see {self.log}")
            time.sleep(_PAUSE)
        self.wait_running(end - time.monotonic(), port=port)

    def power_off(self, timeout: float = 60) -> None:
        """Shut it down from inside, cleanly; nothing to do when it is off.

        Raises: LabError when it takes longer than the timeout.
        """
        end = time.monotonic() + timeout
        if self.running():
            self.run(["systemctl", "--no-block", "poweroff"], check=False)
        while self.running():
            if time.monotonic() > end:
                raise LabError(f"host {self.name} does not shut down: see {self.log}")
            time.sleep(_PAUSE)

    def power_cut(self) -> None:
        """Kill it with everything in it, at once; nothing to do when it is off."""
        # The script first, or it would boot the host again.
        procs.kill_all(self._is_supervisor)
        procs.kill_all(self._is_part)
        net.do([*self.address.unplug(), boot.sweep(self.root)], check=False)

    def running(self) -> bool:
        """Return whether it is switched on."""
        return any(self._is_supervisor(pid) for pid in procs.pids())

    def pid1(self) -> int | None:
        """Return the number its systemd has on this machine; None while there is none."""
        for pid in procs.pids():
            # Before it becomes systemd this is nspawn's own child, and a container inside has an init as well.
            if (
                procs.in_namespace(pid, self.address.handle)
                and procs.is_init(pid)
                and procs.runs(pid, "systemd", "init")
            ):
                return pid
        return None

    def boot_id(self) -> str:
        """Return what systemd names this boot by; another one after every boot."""
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()

    # --- commands

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without the network and without a login session.

        Params as `tools.run`. Raises: LabError when it fails and `check` is true, or when the host is off.
        """
        return run([*self.enter(), *argv], input=input, check=check, timeout=timeout, env=ENVIRONMENT)

    def enter(self) -> list[str]:
        """Return the words to put before a command so that it runs inside, to be given `ENVIRONMENT`.

        Raises: LabError when the host is off.
        """
        pid = self.pid1()
        if pid is None:
            raise LabError(f"host {self.name} is off")
        # In a session of its own: a signal to a process group does not stop at the border of a PID namespace.
        alone = ["setsid", "--wait", *_NO_CLOCK]
        namespaces = ["nsenter", "-F", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*alone, *namespaces, "sh", "-c", _ENTER, "sh"]

    def answers(self, port: int) -> bool:
        """Return whether an SSH server answers on a port, asked from this machine."""
        try:
            with socket.create_connection((self.ipv4, port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def background_done(self, timeout: float = 600) -> None:
        """Wait until what a run has left to go on by itself is done, such as AIDE's database.

        Raises: LabError when it takes longer than the timeout, of which a slow machine has more.
        """
        end = time.monotonic() + timeout * self.patience
        units = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", "mailhost-*.service"]
        while left := self.run(units).stdout:
            if time.monotonic() > end:
                raise LabError(f"host {self.name} is not done with what a run left to it: {left.strip()}")
            time.sleep(self.patience)

    # --- helpers

    def _boot_script(self) -> str:
        return boot.script(self.machine, self.root, self.address)

    def _alive(self) -> bool:
        """Return whether commands can be run inside, booted or not yet."""
        return self.pid1() is not None

    def _state(self, seconds: float) -> str:
        """Return what systemd says of the whole system, once it has booted: it is not asked again and again meanwhile.

        Params: seconds, how long it may take to say so.
        """
        try:
            patiently = ["timeout", f"{max(seconds, 1):.0f}", "systemctl", "is-system-running", "--wait"]
            return self.run(patiently, check=False).stdout.strip() or "booting"
        except LabError:
            return "off"  # it went off meanwhile

    def _is_supervisor(self, pid: int) -> bool:
        return procs.command_line(pid) == ["sh", str(self._script)]

    def _is_part(self, pid: int) -> bool:
        """Return whether a process is this host's nspawn or in its network namespace."""
        nspawn = procs.runs(pid, "systemd-nspawn") and str(self.root) in procs.command_line(pid)
        return nspawn or procs.in_namespace(pid, self.address.handle)
