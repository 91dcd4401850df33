"""The run's place on the host: one run at a time, and the file the operator's workstation follows."""

import fcntl
import json
import os
import pathlib
import time

from salt.exceptions import CommandExecutionError

import mailhost_progress

__all__ = ["take", "tell"]

DIRECTORY = pathlib.Path(mailhost_progress.DIRECTORY)


def take():
    """Take the host for this run, for as long as its process lives; return whether it was not this run's before.

    Two runs at once would each plan on a host that the other changes. The lock is flock(2)'s: it ends with the process,
    however that ends. The pillar that came with the run is removed from the disk: Salt would leave it there.

    Raises CommandExecutionError with who has it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_lock.take
    """
    if "mailhost.lock" in __context__:
        return False
    pathlib.Path(__opts__["root_dir"]).parent.joinpath("salt_state.tgz").unlink(missing_ok=True)
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    # O_CLOEXEC, Python's default: a daemon that the run starts must not go on holding the lock.
    handle = os.open(DIRECTORY / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 400).decode()
        os.close(handle)
        raise CommandExecutionError(f"another run is under way on this host: {holder}; wait until it is done") from None
    os.ftruncate(handle, 0)
    came_from = os.environ.get("SSH_CONNECTION", "this host").split()[0]
    os.write(handle, f"process {os.getpid()} from {came_from} since {time.strftime('%H:%M:%S %Z')}".encode())
    __context__["mailhost.lock"] = handle
    return True


def tell(**words):
    """Tell the workstation that follows the run something, as one line of JSON.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_lock.tell task=1.2.1
    """
    with open(DIRECTORY / mailhost_progress.NAME, "a", encoding="utf-8") as stream:
        stream.write(json.dumps({name: value for name, value in words.items() if not name.startswith("__")}) + "\n")
