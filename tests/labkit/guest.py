"""Commands inside a virtual machine, by QEMU's guest agent: `guest.py SOCKET COMMAND…` runs one as root.

The agent talks over a virtual serial port, so this needs neither the machine's network nor a login on it. As a program
it passes on standard input and the environment, and ends as the command does.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ANSWER = 10.0  # seconds within which a living agent answers
_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


class Silent(Exception):
    """The agent does not answer: the machine is off, or its agent is not up."""


def ask(path: Path, command: str, arguments: Mapping[str, Any] | None = None, timeout: float = _ANSWER) -> Any:
    """Ask the agent and return its answer.

    Params: path, the socket; command; arguments, the command's; timeout in seconds.
    Raises: Silent when it does not answer, RuntimeError with its own words when it refuses.
    """
    end = time.monotonic() + timeout
    with path.with_suffix(".lock").open("a") as lock, socket.socket(socket.AF_UNIX) as link:
        # QEMU serves one connection at a time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            link.settimeout(timeout)
            link.connect(str(path))
            # 0xFF ends whatever another client left half said, and comes before the answer (guest-sync-delimited).
            mark = time.monotonic_ns()
            link.sendall(b"\xff" + _line("guest-sync-delimited", {"id": mark}))
            stream = link.makefile("rb")
            said = None
            while said != mark:
                _until(link, end)
                said = json.loads(stream.readline().rpartition(b"\xff")[2] or "{}").get("return")
            link.sendall(_line(command, arguments or {}))
            _until(link, end)
            answer = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise Silent(f"the guest agent behind {path} does not answer: {error}") from None
    if "error" in answer:
        raise RuntimeError(answer["error"]["desc"])
    return answer["return"]


def execute(path: Path, argv: Sequence[str], input: bytes, env: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run a command in the machine and return its exit code, standard output and standard error.

    Params: path, the socket; argv; input, for its standard input; env, its whole environment. Raises: as `ask`.
    """
    began = ask(path, "guest-exec", {
        "path": argv[0],
        "arg": list(argv[1:]),
        "env": [f"{name}={value}" for name, value in env.items()],
        "input-data": base64.b64encode(input).decode(),
        "capture-output": True,
    })  # fmt: skip
    pause = _PAUSE
    while not (now := ask(path, "guest-exec-status", began))["exited"]:
        time.sleep(pause)
        # An emulated machine has better to do than to answer.
        pause = min(pause * 1.2, _LONGEST_PAUSE)
    code = now["exitcode"] if "exitcode" in now else 128 + now["signal"]
    out, err = (base64.b64decode(now.get(f"{name}-data", "")) for name in ("out", "err"))
    return code, out, err


def _line(command: str, arguments: Mapping[str, Any]) -> bytes:
    return json.dumps({"execute": command, "arguments": dict(arguments)}).encode() + b"\n"


def _until(link: socket.socket, end: float) -> None:
    """Let the next answer take what is left of the time."""
    link.settimeout(max(0.01, end - time.monotonic()))


def main() -> int:
    """Run the command of the command line; 255 with a sentence when there is no agent to run it."""
    path, *argv = sys.argv[1:]
    given = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        code, out, err = execute(Path(path), ["env", *argv], given, os.environ)
    except (Silent, RuntimeError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 255
    sys.stdout.buffer.write(out)
    sys.stderr.buffer.write(err)
    return code


if __name__ == "__main__":
    sys.exit(main())
