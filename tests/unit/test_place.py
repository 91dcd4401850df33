"""The words that take a host's place, and why ssh did not get that far."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

import mailhost_follow
import mailhost_place
import mailhost_progress
import mailhost_ssh
from mailhost_endpoint import Endpoint


@pytest.mark.parametrize(("user", "before"), [("root", []), ("ada", ["sudo", "-n"])])
def test_a_script_becomes_root_and_arrives_whole(user: str, before: list[str]) -> None:
    script = "echo 'it'\"'\"'s here' $1\n"
    words = mailhost_place.as_root(Endpoint("192.0.2.1", 22, user, "public"), script, "now")
    # ssh joins the words with spaces and the user's shell on the host takes them apart.
    assert shlex.split(" ".join(words)) == [*before, "bash", "-c", script, "mailhost", "now"]


def test_the_script_is_one_that_bash_reads() -> None:
    subprocess.run(["bash", "-n"], input=mailhost_place._SCRIPT, text=True, check=True)


@pytest.mark.parametrize(
    ("stderr", "sentence"),
    [
        ("banner\nroot@192.0.2.1: Permission denied (publickey).\n", "root@192.0.2.1: Permission denied (publickey)."),
        ("sudo: a password is required\n", "sudo: a password is required"),
        ("@ REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n", "its host key is not the one known"),
        ("No ED25519 host key is known\nHost key verification failed.\n", "its host key is not the pinned one"),
        ("\n", "ssh ended with 255"),
    ],
)  # fmt: skip
def test_why_ssh_failed(stderr: str, sentence: str) -> None:
    assert mailhost_ssh.refusal(stderr, 255).startswith(sentence)


def test_all_that_a_run_said_is_read_before_the_follower_leaves(tmp_path: Path) -> None:
    said = [f'{{"note": "{number}"}}' for number in range(5000)]
    (tmp_path / "place").write_text(f"{os.getpid()} from here\n")
    (tmp_path / "progress").write_text("\n".join(said) + "\n")
    script = mailhost_place.FOLLOW.replace(mailhost_progress.DIRECTORY, str(tmp_path))
    command = ["bash", "-c", script, "mailhost", "0123456789abcdef"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.close()
        lines = [process.stdout.readline().rstrip() for _ in range(len(said) + 1)]
        (tmp_path / "place").unlink()
        process.kill()
    assert lines == [*said, '{"end": "0123456789abcdef"}']


def test_the_end_of_another_run_is_not_that_of_this_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "0123456789abcdef")
    said = ['{"end": "fedcba9876543210"}', '{"note": "now"}', '{"end": "0123456789abcdef"}', '{"note": "later"}']
    monkeypatch.setattr(mailhost_ssh, "command", lambda *words: ["printf", "%s\\n", *said])
    target = {"ssh_options": [], "host": "192.0.2.1", "port": 22, "user": "root"}
    with mailhost_follow.Follower(target, "mail"):
        pass
    assert capsys.readouterr().err == "mail: now\n"
