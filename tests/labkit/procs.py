"""Finding and killing exactly the processes of a lab.

Nothing is killed by a remembered number: a process is found by what it is now (its command line, its network
namespace) and signalled through a handle the kernel keeps for that very process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .tools import LabError


@dataclass(frozen=True)
class Owner:
    """A process that can be told from a later one with the same number, by when it started."""

    pid: int
    start: int | None
    boot: str

    @classmethod
    def this(cls) -> Owner:
        """Return this process."""
        return cls(os.getpid(), start_time(os.getpid()), boot_id())

    def alive(self) -> bool:
        """Return whether this very process still runs."""
        return self.boot == boot_id() and start_time(self.pid) == self.start

    def data(self) -> dict[str, object]:
        """Return what `Owner(**data)` makes it from again."""
        return asdict(self)


def boot_id() -> str:
    """Return what names this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if there is none, or it is only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def pids() -> Iterator[int]:
    """Yield the number of every process."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def command_line(pid: int) -> list[str]:
    """Return the arguments of a process; empty for a kernel thread or one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def runs(pid: int, *programs: str) -> bool:
    """Return whether a process runs one of the programs, by their names without a directory."""
    return os.path.basename((command_line(pid) or [""])[0]) in programs


def in_namespace(pid: int, handle: Path) -> bool:
    """Return whether a process is in the network namespace that the file stands for."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), handle.stat())
    except OSError:
        return False


def is_init(pid: int) -> bool:
    """Return whether a process is number 1 of a PID namespace below this one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
    return line.split()[2:][-1:] == ["1"]


def kill_all(belongs: Callable[[int], bool], timeout: float = 10) -> None:
    """Kill every process for which `belongs` is true, and wait until there is none.

    Params: belongs, a test of a PID; timeout in seconds. Raises: LabError when some are left.
    """
    end = time.monotonic() + timeout
    while True:
        left = [pid for pid in pids() if pid != os.getpid() and belongs(pid)]
        if not left:
            return
        if time.monotonic() > end:
            raise LabError(f"processes {left} of the lab cannot be killed")
        for pid in left:
            _kill(pid, belongs)
        time.sleep(0.02)


def _kill(pid: int, belongs: Callable[[int], bool]) -> None:
    """Kill a process after making sure, with a handle on it, that it is one of ours."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if belongs(pid):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
