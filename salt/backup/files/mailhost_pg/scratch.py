"""A container to try things in: no rights, bounded memory, disk and time; it only reads the repository.

It has no network, unless the repository that it reads is off the host.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from . import container
from .config import Config, Failed

NAME = "mailserver-postgres-drill"
# On the file system of the data, where a restore would go as well.
DIRECTORY = Path("/opt/postgres/drill")
# Where images of PostgreSQL declare a volume, which would be one of nobody's otherwise.
DATA = "/var/lib/postgresql/data"
# What must stay free beside it, as a part of the file system.
_FLOOR = 0.05
_LOOK = 1.0


class Scratch:
    """The container, and the directory that is /drill in it; both are gone at the end, whatever happens."""

    def __init__(self, config: Config, disk: int, seconds: float, *, network: bool) -> None:
        """Params: config; disk, bytes its directory may take; seconds it may take in all; network, the host's."""
        self._config, self._disk, self._until = config, disk, time.monotonic() + seconds
        self._network = "host" if network else "none"
        self._looked = 0.0
        self._guard: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Start it, in an empty directory."""
        remove()
        self._guard = _guard()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let its guard remove it, and do so here where that one was killed."""
        if self._guard:
            process, line = self._guard
            os.close(line)
            os.waitpid(process, 0)
        remove()

    def _start(self) -> None:
        """Make the directory and start the container."""
        for path in (DIRECTORY, DIRECTORY / "data"):
            path.mkdir(mode=0o700)
            os.chown(path, self._config.uid, self._config.uid)
        config, seconds = self._config, max(1, int(self._until - time.monotonic()))
        mounts = {"/drill": (str(DIRECTORY), ""), "/var/lib/pgbackrest/archive": (str(config.archive), ",readonly")}
        mounts["/var/lib/pgbackrest/backup"] = (str(config.backups), ",readonly")
        mounts[DATA] = (f"{DIRECTORY}/data", "")
        mounts["/etc/pgbackrest"] = (f"{config.project}/pgbackrest", ",readonly")
        argv = ["docker", "run", "--detach", "--rm", f"--name={NAME}", "--pull=never", "--init", "--log-driver=none"]
        argv += [f"--network={self._network}", f"--user={config.uid}:{config.uid}", "--cap-drop=ALL", "--read-only"]
        argv += ["--security-opt=no-new-privileges", "--pids-limit=256", f"--memory={config.drill['memory_mb']}m"]
        # One processor, and less than others: mail goes first.
        argv += ["--cpu-period=100000", "--cpu-quota=100000", "--cpu-shares=256", "--tmpfs=/tmp:size=64m,mode=1777"]
        argv.append(f"--tmpfs=/var/run/postgresql:size=1m,mode=0750,uid={config.uid},gid={config.uid}")
        argv += [f"--mount=type=bind,src={src},dst={dst}{how}" for dst, (src, how) in mounts.items()]
        # It ends by itself, should nobody be left to end it.
        container.run([*argv, "--entrypoint=sleep", config.image, str(seconds)])

    def run(self, *argv: str, stdin: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """Run a program in it and return what it printed.

        Raises Failed when it does not end with one of the codes, and when disk or time do not suffice.
        """
        command = ["docker", "exec", "--interactive", NAME, *argv]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=container.ENVIRONMENT,
        ) as process:
            text: str | None = stdin
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        said, _ = process.communicate(text, timeout=_LOOK)
                        break
                    text = None
                    self.bounded()
            except BaseException:
                process.kill()
                raise
        if process.returncode not in codes:
            raise Failed(f"{argv[0]}: {_words(said) or f'exit code {process.returncode}'}")
        return said

    def bounded(self) -> None:
        """Raise Failed when what it may take of disk or time is taken."""
        now = time.monotonic()
        if now > self._until:
            raise Failed("it was not done in time")
        if now < self._looked + _LOOK:
            return
        self._looked = now
        if (used := size(DIRECTORY)) > self._disk:
            raise Failed(f"the restored data takes more than {self._disk / 1e6:.0f} MB: {used / 1e6:.0f} MB")
        if free(DIRECTORY) < 0:
            raise Failed(f"the disk of {DIRECTORY} is full but for {_FLOOR:.0%}")


def _guard() -> tuple[int, int]:
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
        remove()
        code = 0
    finally:
        os._exit(code)


def remove() -> bool:
    """Remove container and directory, and return whether there was anything to remove."""
    there = DIRECTORY.exists()
    if container.run(["docker", "ps", "--all", "--quiet", f"--filter=name=^{NAME}$"]).strip():
        there = True
        # It may be on its way out by itself.
        container.run(["docker", "rm", "--force", "--volumes", NAME], codes=(0, 1))
    for _ in range(50):
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        if not DIRECTORY.exists():
            return there
        time.sleep(0.1)
    shutil.rmtree(DIRECTORY)
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
