"""sudoers text."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import compiled
import mailhost_sudo


def test_only_the_tag_goes() -> None:
    text = "# NOPASSWD: in a comment\nada ALL=(ALL) NOPASSWD: ALL\n%ops ALL=(ALL) NOPASSWD:SETENV: /bin/x\n"
    assert mailhost_sudo.asking(text) == (
        "# NOPASSWD: in a comment\nada ALL=(ALL) ALL\n%ops ALL=(ALL) SETENV: /bin/x\n"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("%sudo ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n# the end\n\n", None),
        ("%sudo ALL=(ALL) ALL\neve ALL=(ALL) ALL\n", None),
        ("", None),
        ("@includedir /etc/sudoers.d\nada ALL=(ALL) ALL\n", "ada ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n"),
        ("#includedir /etc/sudoers.d\n#1000 ALL=(ALL) ALL\n", "#1000 ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"),
        ("a\n@includedir /etc/sudoers.d\n@include /etc/x", "a\n@include /etc/x\n@includedir /etc/sudoers.d\n"),
    ],
)
def test_nothing_stands_after_the_include_of_sudoers_d(text: str, wanted: str | None) -> None:
    made = mailhost_sudo.directory_last(text)
    assert made == (text if wanted is None else wanted)
    assert mailhost_sudo.directory_last(made) == made


class Sudo:
    """The module on a host whose sudo is a function of the main file's text."""

    def __init__(self, directory: pathlib.Path, works: Callable[[str], bool]) -> None:
        self.module: Any = compiled.loaded("_modules/mailhost_sudo.py")
        self.main, self.works = directory / "sudoers", works
        salt = {"mailhost_run.program": self.program, "mailhost_file.replace": self.replace}
        vars(self.module).update(__salt__=salt, MAIN=self.main, DIRECTORY=directory / "sudoers.d")

    def program(self, argv: list[str], timeout: int) -> str:
        assert argv == ["runuser", "-u", "ada", "--", "sudo", "-n", "true"]
        if not self.works(self.main.read_text()):
            raise CommandExecutionError("sudo: a password is required")
        return ""

    def replace(self, path: str, text: str, **_: object) -> None:
        pathlib.Path(path).write_text(text)

    def put(self, text: str) -> str:
        self.module.put(str(self.main), text, "ada")
        return self.main.read_text()


def test_a_file_that_takes_the_admins_sudo_is_put_back(tmp_path: pathlib.Path) -> None:
    sudo = Sudo(tmp_path, lambda text: text == "old")
    sudo.main.write_text("old")
    with pytest.raises(
        CommandExecutionError, match=r"put back, for ada would have lost sudo .*: a password is required"
    ):
        sudo.put("new")
    assert sudo.main.read_text() == "old"


@pytest.mark.parametrize("works", [True, False])
def test_a_file_stays_where_the_admins_sudo_is_as_before(tmp_path: pathlib.Path, works: bool) -> None:
    sudo = Sudo(tmp_path, lambda text: works)
    sudo.main.write_text("old")
    assert sudo.put("new") == "new"


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
