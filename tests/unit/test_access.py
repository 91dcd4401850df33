"""Keys that come and go, and what counts as a login that was seen to work."""

import json
from typing import Any

import pytest

import mailhost_access
from compiled import KEY

OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBt+HHR7b1COjBrn8yV9369r81Fwbra6e88oIvZbTSM eve@example.org"
FINGERPRINT = mailhost_access.fingerprint(KEY)


def test_fingerprints_are_as_ssh_keygen_prints_them() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBt+HHR7b1COjBrn8yV9369r81Fwbra6e88oIvZbTSM"
    assert mailhost_access.fingerprint(line) == "SHA256:Dp5ay9aCqY0Nf8pHtzdYAP3pOufK/qWUsfmt5nykvsg"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (None, {"keys added"}),
        ("", {"keys added"}),
        (f"{KEY}\n", set()),
        (f"{KEY}\n{OTHER}\n", {"keys removed"}),
        (f"{OTHER}\n", {"keys added", "keys removed"}),
        (f'command="x" {KEY}\n', {"keys added", "keys removed"}),
        (f"# comment\n{KEY}\n", {"order"}),
        (f"{KEY}\nrubbish\n", {"keys removed"}),
    ],
)
def test_what_differs_in_authorized_keys(text: str | None, keys: set[str]) -> None:
    assert set(mailhost_access.plan_keys([KEY], text)) == keys


def test_a_stray_is_named_so_that_its_owner_knows_it() -> None:
    changes = mailhost_access.plan_keys([KEY], f"{KEY}\n{OTHER}\n")
    assert changes["keys removed"].endswith("eve@example.org")
    assert mailhost_access.fingerprint(OTHER) in changes["keys removed"]


def line(message: Any, when: str = "1000000") -> str:
    return json.dumps({"MESSAGE": message, "__REALTIME_TIMESTAMP": when})


ACCEPTED = f"Accepted publickey for ada from 192.0.2.7 port 50022 ssh2: ED25519 {FINGERPRINT}"
SUDO = "     ada : PWD=/home/ada ; USER=root ; COMMAND=/usr/bin/true"


@pytest.mark.parametrize(
    ("messages", "seen"),
    [
        ([ACCEPTED, SUDO], 1),
        ([ACCEPTED], 0),
        ([SUDO, ACCEPTED], 0),
        ([ACCEPTED.replace("ada", "eve"), SUDO], 0),
        ([ACCEPTED.replace(FINGERPRINT, "SHA256:other"), SUDO], 0),
        ([ACCEPTED, "     ada : a password is required ; PWD=/ ; USER=root ; COMMAND=/usr/bin/true"], 0),
        ([ACCEPTED, "     ada : user NOT in sudoers ; PWD=/ ; USER=root ; COMMAND=/usr/bin/true"], 0),
        ([ACCEPTED, "     ada : command not allowed ; PWD=/ ; USER=root ; COMMAND=/usr/bin/true"], 0),
        (["Failed publickey for ada from 192.0.2.7", SUDO], 0),
        ([[1, 2], ACCEPTED, SUDO], 1),
    ],
)
def test_a_login_counts_when_key_and_sudo_worked(messages: list[Any], seen: int) -> None:
    journal = "\n".join(line(message) for message in messages)
    assert len(mailhost_access.logins(journal, "ada", [FINGERPRINT])) == seen
