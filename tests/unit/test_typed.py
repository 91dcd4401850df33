"""What is typed after a state function: nothing is swallowed, and a dry run that is meant is one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

import compiled
import mailhost_pillar
import mailhost_typed
from compiled import GOOD

FILES = {**mailhost_pillar.plain(mailhost_pillar.parse(GOOD)), "environment": "dev"}
RULE = {"port": 25, "from": "public", "comment": "SMTP"}


class Door:
    """The front door, with what Salt does replaced by a note of what it was told."""

    def __init__(self) -> None:
        self.module: ModuleType = compiled.loaded("_wrapper/state.py")
        self.told: list[dict[str, Any]] = []
        self.context: dict[str, Any] = {}
        pillar = type("Pillar", (), {"value": lambda self: FILES})()
        vars(self.module).update(__context__=self.context, __pillar__=pillar, _entered=self.entered)

    def entered(self, function: Any, *args: Any, **kwargs: Any) -> str:
        self.told.append({name: value for name, value in kwargs.items() if value is not None})
        return "ran"

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        self.context.clear()
        self.told.clear()
        return getattr(self.module, function)(*args, **kwargs)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "sentence"),
    [
        ("apply_", [], {"TEST": True}, "TEST: no such argument; write test=True"),
        ("apply_", ["access.admin"], {"Test": True}, "Test: no such argument; write test=True"),
        ("test", ["access.admin"], {"TEST": True}, "TEST: no such argument; write test=True"),
        ("apply_", [], {"tset": True}, "tset: no such argument here; there are pillar, pillarenv, saltenv, test"),
        ("apply_", [], {"dry_run": True}, "dry_run: no such argument here; there are pillar, pillarenv, saltenv, test"),
        ("apply_", ["a"], {"pilarenv": "staging"}, "pilarenv: no such argument here; there are exclude, mods, pillar, pillarenv, saltenv, test"),
        ("highstate", [], {"exclude": "access.admin"}, "exclude: no such argument here; there are pillar, pillarenv, saltenv, test"),
        ("apply_", [], {"exclude": "access.admin"}, "exclude: no such argument here; there are pillar, pillarenv, saltenv, test"),
        ("sls", ["a"], {"force": True}, "force: no such argument here; there are exclude, mods, pillar, pillarenv, saltenv, test"),
        ("highstate", ["test"], {}, "test: 'test' is neither True nor False"),
        ("apply_", [], {"test": "ture"}, "test: 'ture' is neither True nor False"),
        ("apply_", ["a"], {"test": None}, "test: None is neither True nor False"),
        ("sls", ["a", "base", 1], {}, "test: 1 is neither True nor False"),
        ("high", [{}], {"test": True}, "test: no such argument here; there are data, pillar, pillarenv, saltenv"),
        ("low", [{}], {"test": True}, "test: no such argument here; there are data, pillarenv"),
        ("single", ["file.absent", "/x"], {"TEST": True}, "TEST: no such argument; write test=True"),
        ("sls_id", ["x", "a"], {"tset": True}, "tset: no such argument here; there are id_, mods, pillar, pillarenv, queue, saltenv, test"),
        ("top", ["top.sls"], {"exclude": "a"}, "exclude: no such argument here; there are pillar, pillarenv, saltenv, test, topfn"),
    ],
)  # fmt: skip
def test_an_argument_that_would_be_swallowed_is_refused(
    door: Door, function: str, args: list[Any], kwargs: dict[str, Any], sentence: str
) -> None:
    assert door.call(function, *args, **kwargs) == [sentence]
    assert (door.context["retcode"], door.told) == (1, [])


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "told"),
    [
        ("apply_", [], {}, {}),
        ("apply_", [], {"test": True, "__kwarg__": True}, {"test": True, "__kwarg__": True}),
        ("apply_", [], {"test": False, "pillarenv": "dev", "saltenv": "base"}, {"test": False, "pillarenv": "dev", "saltenv": "base"}),
        ("apply_", ["a,b"], {"test": True, "exclude": "b"}, {"test": True, "exclude": "b", "saltenv": "base"}),
        ("apply_", [], {"mods": "a", "pillarenv": "dev"}, {"pillarenv": "dev", "saltenv": "base"}),
        ("test", ["a"], {}, {"test": True, "saltenv": "base"}),
        ("highstate", [True], {}, {"test": True}),
    ],
)  # fmt: skip
def test_what_salt_has_a_use_for_goes_on(
    door: Door, function: str, args: list[Any], kwargs: dict[str, Any], told: dict[str, Any]
) -> None:
    assert door.call(function, *args, **kwargs) == "ran"
    assert (door.context, door.told) == ({}, [told])


def test_a_state_s_own_arguments_are_its_own() -> None:
    assert mailhost_typed.refusals({"name": "/x", "mode": "0600", "test": True}, None) == []


def test_a_pillar_that_is_typed_goes_on_parsed(door: Door) -> None:
    """Salt lays it over the parsed pillar again, and a rule without its protocol is none that the host knows."""
    typed = {"firewall": {"rules": [RULE]}, "fail2ban": {"ignore": ["203.0.113.0/32"]}}
    assert door.call("apply_", "firewall.rules", pillar=typed) == "ran"
    (told,) = door.told
    assert list(told["pillar"]) == ["firewall", "fail2ban"], "what was not named is the files'"
    assert told["pillar"]["firewall"]["rules"] == [{**RULE, "protocol": "tcp", "limited": False}]
    assert told["pillar"]["fail2ban"] == {**FILES["fail2ban"], "ignore": ["203.0.113.0"]}


@pytest.mark.parametrize(
    ("typed", "sentences"),
    [
        ({"ssh": {"prot": 22}}, ["ssh.prot: no such key; here are port"]),
        ({"environment": "prod"}, ["environment: no such key"]),
        ("{'ssh': hunter2", ['pillar: is not a mapping such as \'{"ssh": {"port": 2288}}\'']),
        ("", ['pillar: is not a mapping such as \'{"ssh": {"port": 2288}}\'']),
    ],
)
def test_a_pillar_that_is_typed_wrongly_is_refused(door: Door, typed: Any, sentences: list[str]) -> None:
    first, *said = door.call("apply_", pillar=typed)
    assert first == "pillar= cannot be used"
    assert [sentence.split(";")[0] for sentence in said] == [sentence.split(";")[0] for sentence in sentences]
    assert (door.context["retcode"], door.told) == (5, [])
