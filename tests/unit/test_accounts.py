"""What differs between the account that is wanted and the one that is there."""

import importlib.util
import pathlib
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from compiled import ROOT
from mailhost_accounts import plan_present

WANTED = {
    "name": "ada",
    "uid": 1000,
    "shell": "/bin/bash",
    "home": "/home/ada",
    "groups": ["sudo"],
    "password_hash": None,
}
THERE = {
    "uid": 1000,
    "gid": 1000,
    "shell": "/bin/bash",
    "home": "/home/ada",
    "home_exists": True,
    "locked": True,
    "password_hash": "!",
}
GROUPS = {"sudo": {"gid": 27, "members": ["ada"]}, "ada": {"gid": 1000, "members": []}}


def plan(user: dict[str, Any], groups: dict[str, Any] | None = None, **wanted: Any) -> dict[str, Any]:
    return plan_present({**WANTED, **wanted}, {"ada": {**THERE, **user}}, {**GROUPS, **(groups or {})})


def test_an_account_as_wanted_is_left_alone() -> None:
    assert plan({}) == {}


def test_an_absent_one_is_made() -> None:
    assert set(plan_present(WANTED, {}, {"sudo": {"gid": 27, "members": []}})) == {"user"}


@pytest.mark.parametrize(
    ("user", "groups", "changes"),
    [
        ({"shell": "/bin/sh"}, {}, {"shell"}),
        ({"uid": 1001}, {}, {"uid"}),
        ({"uid": 1001, "gid": 1001}, {"ada": {"gid": 1001, "members": []}}, {"uid", "group"}),
        ({"gid": 100}, {}, {"gid"}),
        ({"home_exists": False}, {}, {"home"}),
        ({"home": "/srv/ada"}, {}, {"home"}),
        ({"locked": False, "password_hash": "$y$x"}, {}, {"password"}),
        ({}, {"sudo": {"gid": 27, "members": []}}, {"groups"}),
    ],
)
def test_each_attribute_is_named(user: dict[str, Any], groups: dict[str, Any], changes: set[str]) -> None:
    assert set(plan(user, groups)) == changes


def test_a_declared_password_is_set_and_never_shown() -> None:
    changes = plan({}, password_hash="$y$j9T$secret")
    assert changes == {"password": {"old": "locked", "new": "as declared"}}
    assert plan({"locked": False, "password_hash": "$y$j9T$secret"}, password_hash="$y$j9T$secret") == {}


@pytest.mark.parametrize(
    ("users", "groups", "sentence"),
    [
        ({"eve": {**THERE}}, GROUPS, "uid 1000, wanted for ada, belongs to eve: remove or move that account"),
        ({}, {**GROUPS, "eve": {"gid": 1000, "members": []}}, "gid 1000, wanted for ada, belongs to group eve: remove or move it"),
        ({}, {}, "group sudo, wanted for ada, does not exist"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_is_not_taken(users: dict[str, Any], groups: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandExecutionError, match="^" + sentence.replace("(", r"\(")):
        plan_present(WANTED, users, groups)


def loaded(kind: str, name: str, **dunders: Any) -> Any:
    """Return a module or state of the tree with Salt's names in it."""
    spec = importlib.util.spec_from_file_location(f"{kind}_{name}", ROOT / f"_{kind}/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(dunders)
    return module


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_shell_that_nobody_can_run_is_refused(tmp_path: pathlib.Path, mode: int | None, test: bool) -> None:
    shell = tmp_path / "zsh"
    if mode:
        shell.touch(mode)
    salt = {"mailhost_accounts.refuse_shell": loaded("modules", "mailhost_accounts").refuse_shell}
    state = loaded("states", "mailhost_user", __salt__=salt, __opts__={"test": test}, __context__={})
    result = state.present("ada", 1000, str(shell), ["sudo"], None)
    words = f"access.admin.shell: {shell} is no executable file on the host: install it there, or declare another shell"
    assert (result["result"], result["comment"]) == (False, words)


def test_a_shell_that_runs_is_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bash").touch(0o755)
    (tmp_path / "link").symlink_to("bash")
    loaded("modules", "mailhost_accounts").refuse_shell(str(tmp_path / "link"))
