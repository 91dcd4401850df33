"""A secret of the pillar is where it belongs on the host, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Host, procs
from labkit.checkout import Checkout

from .conftest import ACCESS

pytestmark = pytest.mark.lab

CANARY = "CanaryInTheCoalMineSingsNoMore0"
HASH = f"$y$j9T$abcdefghijklmnopqrstu/${CANARY}abcdefghijklmnopqr"
SHADOWS = {"etc/shadow", "etc/shadow-"}


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect the arguments of all processes of this machine, and so of its lab hosts, many times a second."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for pid in procs.pids():
                seen.update(procs.command_line(pid))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        over.set()
        looker.join()


def holding(root: Path, since: float, *left_out: str) -> set[str]:
    """Return the files below a directory that changed since a moment and hold the canary."""
    found = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if os.path.relpath(f"{folder}/{name}", root) not in left_out]
        for name in files:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                changed = path.is_file() and not path.is_symlink() and path.stat().st_ctime >= since
                if changed and CANARY.encode() in path.read_bytes():
                    found.add(os.path.relpath(path, root))
    return found


def test_a_password_hash(fresh: Host, checkout: Checkout) -> None:
    checkout.pillar(checkout.good_pillar(fresh, password_hash=HASH))
    since = time.time() - 1
    said = ""
    with command_lines() as arguments:
        for words in (["test=True", "-l", "debug"], ["-l", "debug"], [], ["test=True"]):
            result = checkout.salt("mail", "state.apply", ",".join(ACCESS), *words)
            assert result.returncode == 0, result
            said += result.stdout + result.stderr
        tracker = checkout.salt("mail", "state.apply", "status", "--out=json")
        said += tracker.stdout + tracker.stderr
    assert HASH in fresh.read("/etc/shadow")
    assert "-l" in arguments, "the arguments of salt-ssh itself were seen"
    assert not [words for words in arguments if CANARY in words]
    assert CANARY not in said
    assert holding(fresh.root, since, "proc", "sys", "dev") <= SHADOWS
    for path in SHADOWS:
        status = (fresh.root / path).stat()
        assert (status.st_uid, status.st_gid, oct(status.st_mode & 0o777)) == (0, 42, "0o640")
    # What is in no file of the disk: /run, /tmp, and the journal, whose files may be compressed.
    assert fresh.run(["grep", "-rl", CANARY, "/run", "/tmp", "/dev/shm"], check=False).stdout == ""
    assert CANARY not in fresh.run(["journalctl", "--no-pager", "-o", "export"]).stdout
    # The workstation: the checkout but for the pillar itself, and what is temporary.
    assert holding(checkout.directory, since) == {"pillar/dev/init.sls"}
    assert holding(Path("/tmp"), since, os.path.relpath(checkout.directory, "/tmp")) == set()


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_hash_is_changed_and_taken_away(entered: Host, checkout: Checkout) -> None:
    """Another hash than the pillar's is seen and replaced; without one the password is locked again."""
    for wanted, shown in ((HASH, "as declared"), (HASH[:-1] + "X", "as declared"), (None, "locked")):
        checkout.pillar(checkout.good_pillar(entered, password_hash=wanted))
        run = checkout.apply("access.admin")
        assert run.changed["phalkonadmin exists"]["password"]["new"] == shown, run.result
        assert CANARY not in run.result.stdout + run.stderr
        entry = next(line for line in entered.read("/etc/shadow").splitlines() if line.startswith("phalkonadmin:"))
        assert entry.split(":")[1] == wanted if wanted else entry.split(":")[1].startswith("!")
        assert checkout.apply("access.admin").changed == {}
