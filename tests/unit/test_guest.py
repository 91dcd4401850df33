"""The lab's way into virtual machines: what QEMU's guest agent is asked, what its answers are taken for, and files."""

from __future__ import annotations

import base64
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from labkit import LabError, Virtual, guest


class Agent:
    """Stands in for the agent behind QEMU's socket: answers what it is asked, after what was left over."""

    def __init__(self, path: Path, answers: list[dict[str, Any]]) -> None:
        """Params: path, the socket's; answers, one a question besides the marks."""
        self.answers, self.asked = answers, list[dict[str, Any]]()
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while self.answers:
            link, _ = self.server.accept()
            with link, link.makefile("rwb") as stream:
                mark = json.loads(stream.readline().lstrip(b"\xff"))["arguments"]["id"]
                stream.write(b'{"return": "of a client that is gone"}\n\xff' + _line({"return": mark}))
                stream.flush()
                self.asked.append(json.loads(stream.readline()))
                stream.write(_line(self.answers.pop(0)))
                stream.flush()


def _line(data: object) -> bytes:
    return json.dumps(data).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a socket whose path is short enough."""
    monkeypatch.chdir(tmp_path)
    return Path("agent")


def test_a_command_runs_and_what_it_leaves_comes_back(path: Path) -> None:
    out = base64.b64encode(b"42\n").decode()
    agent = Agent(
        path,
        [
            {"return": {"pid": 7}},
            {"return": {"exited": False}},
            {"return": {"exited": True, "exitcode": 3, "out-data": out}},
        ],
    )
    assert guest.execute(path, ["wc", "-l"], b"lines", {"LANG": "C"}) == (3, b"42\n", b"")
    begun, *waited = agent.asked
    assert begun["arguments"] == {
        "path": "wc", "arg": ["-l"], "env": ["LANG=C"], "capture-output": True,
        "input-data": base64.b64encode(b"lines").decode(),
    }  # fmt: skip
    assert [question["arguments"] for question in waited] == [{"pid": 7}, {"pid": 7}]


def test_a_killed_command_ends_as_a_shell_says_it(path: Path) -> None:
    Agent(path, [{"return": {"pid": 7}}, {"return": {"exited": True, "signal": 9}}])
    assert guest.execute(path, ["sleep"], b"", {})[0] == 137


def test_a_refusal_is_in_the_agents_words(path: Path) -> None:
    Agent(path, [{"error": {"class": "GenericError", "desc": "Failed to execute child process"}}])
    with pytest.raises(RuntimeError, match="Failed to execute child process"):
        guest.execute(path, ["nothing"], b"", {})


@pytest.mark.parametrize("listening", [False, True])
def test_a_machine_that_is_off_or_not_up_yet_is_silent(path: Path, listening: bool) -> None:
    server = socket.socket(socket.AF_UNIX)
    if listening:
        server.bind(str(path))
        server.listen()
    with pytest.raises(guest.Silent):
        guest.ask(path, "guest-ping", timeout=0.2)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Virtual:
    """A virtual machine whose commands run on this one."""
    monkeypatch.setattr(Virtual, "enter", lambda self: [])
    return Virtual.__new__(Virtual)


def test_a_file_comes_back_as_it_was_put(machine: Virtual, tmp_path: Path) -> None:
    path = tmp_path / "made for it/a file"
    text = "größer als eine Zeile, ohne Ende\n" * 1000 + "last"
    machine.put(text, str(path), 0o640)
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640
    assert machine.read(str(path)) == text


def test_a_file_that_is_not_there_is_an_error(machine: Virtual, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nothing"):
        machine.read(str(tmp_path / "nothing"))
