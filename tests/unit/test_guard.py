"""Which login confirms a change of access, and what the host may ask of the workstation."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import compiled
import mailhost_guard
import mailhost_progress

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
    mailhost_guard._keep(str(live), failed)
    mailhost_guard._put_back(str(live))
    found = {str(path.relative_to(live)): path.read_text() for path in live.rglob("*") if path.is_file()}
    assert found == {"d/changed": "old", "d/removed": "old", "was_file": "old"}
    assert (live / "link").is_symlink()
    assert (failed / str(live).lstrip("/") / "d/new").read_text() == "new"


def test_what_was_not_there_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailhost_guard, "HOME", tmp_path / "home")
    (tmp_path / "file").write_text("new")
    mailhost_guard._put_back(str(tmp_path / "file"))
    mailhost_guard._put_back(str(tmp_path / "never"))
    assert not (tmp_path / "file").exists()


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A change of the file ``there`` that is armed, as the guard keeps it; no systemd listens."""
    home, there = tmp_path / "guard", tmp_path / "there"
    snapshot = home / "snapshot" / str(there).lstrip("/")
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text("old")
    there.write_text("new")
    (home / "armed.json").write_text(json.dumps({**ARMED, "token": "t", "paths": [str(there)], "units": {}}))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(mailhost_guard, "HOME", home)
    monkeypatch.setattr(mailhost_guard, "UNITS", tmp_path / "units")
    return there


def test_what_went_back_is_told_and_its_snapshot_is_let_go(armed: Path) -> None:
    assert mailhost_guard.revert() == "sshd: was not confirmed, everything is as it was"
    assert armed.read_text() == "old"
    assert mailhost_guard.armed() is None
    assert (mailhost_guard.reverted() or {})["what"] == "sshd"
    assert list(mailhost_guard.HOME.parent.glob("guard*/snapshot")) == []
    with pytest.raises(mailhost_guard.GuardError, match="went back before it was made"):
        mailhost_guard.changed("t")


def test_without_a_snapshot_nothing_is_touched(armed: Path) -> None:
    shutil.rmtree(mailhost_guard.HOME / "snapshot")
    with pytest.raises(mailhost_guard.GuardError, match="snapshot is gone, so nothing can be put back"):
        mailhost_guard.revert()
    assert armed.read_text() == "new"
    assert mailhost_guard.armed()


def test_a_snapshot_that_does_not_go_back_is_kept(armed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(mailhost_guard, "_put_back", full)
    said = mailhost_guard.revert()
    assert "No space left on device" in said
    (kept,) = mailhost_guard.HOME.parent.glob("guard.*T*")
    assert str(kept) in said
    assert (kept / str(armed).lstrip("/")).read_text() == "old"


def _module(**given: Any) -> Any:
    """Return the execution module as Salt would load it, with these names in it."""
    return compiled.loaded("_modules/mailhost_guard.py", **given)


@pytest.mark.parametrize(
    ("when", "said"),
    [("made", "sshd: it went back before it was made"), ("waits", "sshd: went back before it was confirmed")],
)
def test_what_went_back_meanwhile_is_not_confirmed(
    armed: Path, monkeypatch: pytest.MonkeyPatch, when: str, said: str
) -> None:
    notes: list[str] = []

    def tell(note: str = "", confirm: Any = None) -> None:
        notes.append(note)
        if confirm:
            mailhost_guard.revert()

    module = _module(
        __salt__={"mailhost_lock.tell": tell},
        __pillar__={"access": {"confirm_minutes": 10}},
        _refuse_hopeless=lambda what, login: None,
    )
    monkeypatch.setattr(mailhost_guard, "arm", lambda *_: {**ARMED, "token": "t", "until": 0})
    with pytest.raises(CommandExecutionError, match=said):
        module.commit("sshd", [], mailhost_guard.revert if when == "made" else lambda: None, ARMED["login"])
    assert armed.read_text() == "old"
    assert not [note for note in notes if "confirmed by" in note]
    assert mailhost_guard.reverted() is None


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
    module = _module(__salt__={"mailhost_access.confirm": lambda: "sshd: confirmed"})
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
