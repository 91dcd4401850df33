"""Which login confirms a change of access, and what the host may ask of the workstation."""

import importlib.util
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import mailhost_guard
import mailhost_progress
from compiled import ROOT

ARMED = {
    "what": "sshd",
    "changed": 500.0,
    "boot": "b1",
    "login": {"user": "ada", "addresses": ["10.100.0.25", "fd00::25"], "port": 2288},
}
LOGIN = {"user": "ada", "address": "10.100.0.25", "port": 2288, "began": 501.0, "boot": "b1"}


def test_a_new_login_by_the_new_way_confirms() -> None:
    assert mailhost_guard.doubt(ARMED, LOGIN) == ""
    assert mailhost_guard.doubt(ARMED, {**LOGIN, "address": "fd00::25"}) == ""


def test_after_a_reboot_any_login_by_the_new_way_is_new() -> None:
    assert mailhost_guard.doubt(ARMED, {**LOGIN, "began": 20.0, "boot": "b2"}) == ""


@pytest.mark.parametrize(
    ("armed", "login", "words"),
    [
        ({}, None, "no login over ssh"),
        ({"changed": None}, {}, "has not been made yet"),
        ({}, {"began": 499.0}, "began before the change"),
        ({}, {"user": "root"}, "root's, not ada's"),
        ({}, {"address": "203.0.113.5"}, "not by the new way"),
        ({}, {"port": 22}, "not by the new way"),
    ],
)
def test_no_other_login_does(armed: dict[str, Any], login: dict[str, Any] | None, words: str) -> None:
    assert words in mailhost_guard.doubt({**ARMED, **armed}, None if login is None else {**LOGIN, **login})


@pytest.mark.parametrize(
    "line",
    [
        '{"task": "1.2.1"}',
        '{"note": "armed, goes back in 10 min"}',
        '{"login": "ada"}',
        '{"confirm": {"user": "ada", "addresses": ["10.0.0.1", "fd00::1"], "port": 22, "token": "0123456789abcdef"}}',
        '{"end": "0123456789abcdef"}',
    ],
)
def test_the_host_may_say(line: str) -> None:
    assert mailhost_progress.parse(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rubbish",
        "[]",
        '{"task": 1}',
        '{"task": "1", "login": "ada"}',
        '{"shell": "rm -rf /"}',
        '{"note": "\\u001b[2J"}',
        '{"login": "-oProxyCommand=x"}',
        '{"login": ["ada"]}',
        '{"end": true}',
        '{"confirm": {"user": "ada", "addresses": ["-x"], "port": 22, "token": "0123456789abcdef"}}',
        '{"confirm": {"user": "ada", "addresses": ["10.0.0.1"], "port": 0, "token": "0123456789abcdef"}}',
        '{"confirm": {"user": "ada", "addresses": ["10.0.0.1"], "port": 22, "token": "$(id)"}}',
        '{"confirm": {"user": "ada"}}',
    ],
)
def test_anything_else_is_not_listened_to(line: str) -> None:
    assert mailhost_progress.parse(line) is None


def test_going_back_removes_what_is_new_and_restores_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailhost_guard, "HOME", tmp_path / "home")
    live, failed = tmp_path / "etc", tmp_path / "failed"
    kept = tmp_path / "home/snapshot" / str(live).lstrip("/")
    for directory in (live / "d", live / "was_file", kept / "d", failed):
        directory.mkdir(parents=True)
    for path, text in {
        live / "d/new": "new",
        live / "d/changed": "new",
        live / "link": "new",
        kept / "d/changed": "old",
        kept / "d/removed": "old",
        kept / "was_file": "old",
    }.items():
        path.write_text(text)
    (kept / "link").symlink_to("d")
    mailhost_guard._put_back(str(live), failed)
    found = {str(path.relative_to(live)): path.read_text() for path in live.rglob("*") if path.is_file()}
    assert found == {"d/changed": "old", "d/removed": "old", "was_file": "old"}
    assert (live / "link").is_symlink()
    assert (failed / str(live).lstrip("/") / "d/new").read_text() == "new"


def test_what_was_not_there_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailhost_guard, "HOME", tmp_path / "home")
    (tmp_path / "file").write_text("new")
    (tmp_path / "failed").mkdir()
    mailhost_guard._put_back(str(tmp_path / "file"), tmp_path / "failed")
    mailhost_guard._put_back(str(tmp_path / "never"), tmp_path / "failed")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("armed", "gone", "said"),
    [
        (
            {**ARMED, "changed": None},
            ["back"],
            "sshd: as it was: the run that made the change ended in the middle of it",
        ),
        (ARMED, [], "sshd: confirmed"),
        (None, [], ""),
    ],
)
def test_a_run_begins_with_what_the_one_before_left(
    monkeypatch: pytest.MonkeyPatch, armed: dict[str, Any] | None, gone: list[str], said: str
) -> None:
    spec = importlib.util.spec_from_file_location("guard_module", ROOT / "_modules/mailhost_guard.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(__salt__={"mailhost_access.confirm": lambda: "sshd: confirmed"})
    done: list[str] = []
    monkeypatch.setattr(mailhost_guard, "armed", lambda: armed)
    monkeypatch.setattr(mailhost_guard, "reverted", lambda: None)
    monkeypatch.setattr(mailhost_guard, "forget_reverted", lambda: None)

    def revert() -> str:
        done.append("back")
        return "sshd: as it was"

    monkeypatch.setattr(mailhost_guard, "revert", revert)
    assert module.settle() == said
    assert done == gone


def test_who_tidies_up_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation says so before it has removed the timer; the next change is not armed in the middle of that."""
    monkeypatch.setattr(mailhost_guard, "HOME", tmp_path / "guard")
    order = []

    def tidying() -> None:
        order.append("begun")
        time.sleep(0.3)
        order.append("tidied up")

    slow = threading.Thread(target=mailhost_guard._alone(tidying))
    slow.start()
    while not order:
        time.sleep(0.01)
    mailhost_guard._alone(lambda: order.append("armed"))()
    slow.join()
    assert order == ["begun", "tidied up", "armed"]
