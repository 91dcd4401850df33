"""A container to bring a cluster back in: no rights, and its own directory; it only reads the repository.

It has no network, unless the repository that it reads is off the host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from . import container
from .config import Config, Failed

# The drill's, on the file system of the data, where a restore would go as well.
NAME = "mailserver-postgres-drill"
DIRECTORY = Path("/opt/postgres/drill")
# Where images of PostgreSQL declare a volume, which would be one of nobody's otherwise.
DATA = "/var/lib/postgresql/data"
# What must stay free beside it, as a part of the file system.
_FLOOR = 0.05
_LOOK = 1.0


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What may be taken: megabytes of memory, bytes of the disk, and seconds in all."""

    memory_mb: int
    disk: int
    seconds: float


class Scratch:
    """The container, and the directory that is the cluster's in it; both are gone at the end, whatever happens.

    Set keep, and the directory stays. With bounds, both go even when this process is killed.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        directory: Path,
        *,
        network: bool,
        wal: Sequence[Path] = (),
        bounds: Bounds | None = None,
    ) -> None:
        """Params: config; name, the container's; directory, on the host; network, whether it has the host's; wal,
        directories of the host with WAL that is not in the repository.
        """
        self.config, self.directory, self.keep = config, directory, False
        self._name, self._network, self._wal, self._bounds = name, network, wal, bounds
        self._until = time.monotonic() + bounds.seconds if bounds else None
        self._looked = 0.0
        self._guard: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Start it, in an empty directory."""
        remove(self._name, self.directory)
        self._guard = _guard(self._name, self.directory) if self._bounds else None
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let its guard remove it, and do so here where there is none, or that one was killed."""
        if self._guard:
            process, line = self._guard
            os.close(line)
            os.waitpid(process, 0)
        if self.keep:
            container.remove(self._name)
        else:
            remove(self._name, self.directory)

    def _start(self) -> None:
        """Make the directory and start the container."""
        config, bounds = self.config, self._bounds
        self.directory.mkdir(mode=0o700)
        os.chown(self.directory, config.uid, 0)
        argv = container.beside(config, str(self.directory), network=self._network)
        argv += ["--detach", f"--name={self._name}", "--init", "--pids-limit=256", "--shm-size=256m"]
        argv += [f"--volume={place}:/old-wal/{number}:ro" for number, place in enumerate(self._wal)]
        if bounds:
            # One processor, and less than others: mail goes first.
            argv += [f"--memory={bounds.memory_mb}m", "--cpu-period=100000", "--cpu-quota=100000", "--cpu-shares=256"]
        # It ends by itself, should nobody be left to end it.
        seconds = str(max(1, int(bounds.seconds))) if bounds else "infinity"
        container.run([*argv, "--entrypoint=sleep", config.image, seconds])

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a program in it and return what it printed.

        Raises Failed when it does not end with 0, and when disk or time do not suffice.
        """
        command = ["docker", "exec", "--interactive", self._name, *argv]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=container.ENVIRONMENT,
        ) as process:
            text: str | None = stdin
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        said, errors = process.communicate(text, timeout=_LOOK)
                        break
                    text = None
                    self.bounded()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise Failed(f"{argv[0]}: {_words(said + errors) or f'exit code {process.returncode}'}")
        return said

    def bounded(self) -> None:
        """Raise Failed when what may be taken of disk or time is taken."""
        now, bounds = time.monotonic(), self._bounds
        if not bounds or self._until is None:
            return
        if now > self._until:
            raise Failed("it was not done in time")
        if now < self._looked + _LOOK:
            return
        self._looked = now
        if (used := size(self.directory)) > bounds.disk:
            raise Failed(f"the restored data takes more than {bounds.disk / 1e6:.0f} MB: {used / 1e6:.0f} MB")
        if free(self.directory) < 0:
            raise Failed(f"the disk of {self.directory} is full but for {_FLOOR:.0%}")


def _guard(name: str, directory: Path) -> tuple[int, int]:
    """Start a process that removes container and directory when this one is gone, also by SIGKILL.

    It has this one's lock as well until it is done. Returns its number, and the descriptor whose end it waits for.
    """
    listening, line = os.pipe()
    process = os.fork()
    if process:
        os.close(listening)
        return process, line
    code = 1
    try:
        # Out of reach of what a terminal or systemd sends to all of a job.
        os.setsid()
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        os.close(line)
        os.read(listening, 1)
        remove(name, directory)
        code = 0
    finally:
        os._exit(code)


def remove(name: str = NAME, directory: Path = DIRECTORY) -> bool:
    """Remove container and directory, and return whether there was anything to remove."""
    there = directory.exists()
    if container.run(["docker", "ps", "--all", "--quiet", f"--filter=name=^{name}$"]).strip():
        there = True
        # It may be on its way out by itself.
        container.remove(name)
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return there
        time.sleep(0.1)
    shutil.rmtree(directory)
    return there


def bounds_memory() -> bool:
    """Return whether the kernel lets Docker bound memory; where it does not, Docker leaves the bound out."""
    return container.run(["docker", "info", "--format={{.MemoryLimit}}"]).strip() == "true"


def free(directory: Path) -> int:
    """Return the bytes that may still be taken of a directory's file system: all but what must stay free."""
    found = os.statvfs(directory)
    return int(found.f_bavail * found.f_frsize - _FLOOR * found.f_blocks * found.f_frsize)


def size(directory: Path) -> int:
    """Return the bytes that a directory takes on the disk."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            # What is there in one moment may be gone in the next: it is a database at work.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def _words(said: str) -> str:
    """Return why a program failed, from what it printed: its errors where it marks them, without pgBackRest's times."""
    lines = [re.sub(r"^[\d-]+ [\d:.]+ P\d+ +", "", line.strip()) for line in said.splitlines() if line.strip()]
    return " / ".join([line for line in lines if "error" in line.lower()][:2] or lines[-3:])[:500]
