"""sudoers text."""

import json

import pytest

import mailhost_sudo


def test_only_the_tag_goes() -> None:
    text = "# NOPASSWD: in a comment\nada ALL=(ALL) NOPASSWD: ALL\n%ops ALL=(ALL) NOPASSWD:SETENV: /bin/x\n"
    assert mailhost_sudo.asking(text) == (
        "# NOPASSWD: in a comment\nada ALL=(ALL) ALL\n%ops ALL=(ALL) SETENV: /bin/x\n"
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# cloud-init\neve ALL=(ALL) NOPASSWD:ALL\n", ""),
        ("eve ALL=(ALL) ALL\nada ALL=(ALL) ALL\n", "ada ALL=(ALL) ALL\n"),
        ("eve ALL=(ALL) \\\n  NOPASSWD: \\\n  ALL\nada ALL=(ALL) ALL\n", "ada ALL=(ALL) ALL\n"),
        ("#includedir /etc/x\neve ALL=(ALL) ALL\n", "#includedir /etc/x\n"),
        ("Defaults env_reset\neve ALL=(ALL) ALL\n", "Defaults env_reset\n"),
    ],
)
def test_a_users_rules_go_and_no_others(text: str, left: str) -> None:
    assert mailhost_sudo.without_user({"/f": text}, "eve") == {"/f": left}


@pytest.mark.parametrize("text", ["# eve ALL=(ALL) ALL\n", "evelyn ALL=(ALL) ALL\n", "", "ada ALL=(eve) ALL\n"])
def test_what_is_not_the_users_stays(text: str) -> None:
    assert mailhost_sudo.without_user({"/f": text}, "eve") == {}


def test_strays_are_what_nobody_declared() -> None:
    paths = ["/etc/sudoers", "/etc/sudoers.d/README", "/etc/sudoers.d/ours", "/etc/sudoers.d/90-x", "/etc/sudoers.d/a~"]
    assert mailhost_sudo.strays(paths, ["ours"]) == ["90-x", "a~"]


def test_who_is_asked_for_no_password_is_read_from_cvtsudoers() -> None:
    policy = {
        "User_Specs": [
            {"User_List": [{"username": "root"}], "Cmnd_Specs": [{"Commands": [{"command": "ALL"}]}]},
            {"User_List": [{"usergroup": "sudo"}], "Cmnd_Specs": [{"Options": [{"authenticate": False}]}]},
            {
                "User_List": [{"username": "eve"}],
                "Cmnd_Specs": [{"Options": [{"setenv": True}, {"authenticate": False}]}],
            },
        ]
    }
    assert mailhost_sudo.passwordless(json.dumps(policy)) == ["%sudo", "eve"]
