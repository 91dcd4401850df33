"""The roster's two halves: what people write, and what was found out."""

from __future__ import annotations

from pathlib import Path

import pytest

import mailhost_roster
from mailhost_endpoint import InvalidRoster

FOUND = {"host": ["203.0.113.5"], "environment": "prod", "host_key": "ssh-ed25519 AAAA"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "roster")


def test_what_people_wrote_goes_before_it(path: str) -> None:
    mailhost_roster.keep(path, "mail", FOUND)
    assert mailhost_roster.entries(path) == {"mail": FOUND}
    Path(path).write_text("mail: {priv: ~/.ssh/k, environment: dev}\nother: {host: 198.51.100.1}\n")
    assert mailhost_roster.entries(path) == {
        "mail": {**FOUND, "priv": "~/.ssh/k", "environment": "dev"},
        "other": {"host": "198.51.100.1"},
    }
    assert mailhost_roster.made(path, "mail") == FOUND
    assert mailhost_roster.written(path, "mail") == {"priv": "~/.ssh/k", "environment": "dev"}
    mailhost_roster.forget(path, "mail")
    assert mailhost_roster.made(path, "mail") == {}
    assert mailhost_roster.entries(path)["mail"] == {"priv": "~/.ssh/k", "environment": "dev"}


def test_the_environment_of_a_host(path: str) -> None:
    assert mailhost_roster.environment(path, "mail") is None
    mailhost_roster.keep(path, "mail", FOUND)
    assert mailhost_roster.environment(path, "mail") == "prod"
    Path(path).write_text("mail: {environment: dev}\n")
    assert mailhost_roster.environment(path, "mail") == "dev"


def test_an_entry_without_keys_is_only_a_name(path: str) -> None:
    mailhost_roster.keep(path, "mail", FOUND)
    Path(path).write_text("mail:\n")
    assert mailhost_roster.entries(path) == {"mail": FOUND}


def test_unfinished_files_are_no_hosts(path: str) -> None:
    mailhost_roster.keep(path, "mail", FOUND)
    Path(f"{path}.d/.mail").write_text("half")
    assert list(mailhost_roster.entries(path)) == ["mail"]


@pytest.mark.parametrize("text", ["- a\n", "just words", "a: [\n"])
def test_a_roster_that_is_none(path: str, text: str) -> None:
    Path(path).write_text(text)
    with pytest.raises(InvalidRoster, match="is not YAML of hosts"):
        mailhost_roster.entries(path)


def test_neither_half(path: str) -> None:
    with pytest.raises(InvalidRoster, match=r"is missing; copy etc/salt/roster\.example there"):
        mailhost_roster.entries(path)
