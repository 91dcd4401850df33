"""What is in the pillar of one environment never reaches a host of another."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import ENVIRONMENTS, Checkout, Result

pytestmark = pytest.mark.lab


@pytest.fixture
def tree(checkout: Checkout, _mail: Host) -> Checkout:
    """A checkout with another value in the pillar of each environment, the roster saying staging."""
    for environment in ENVIRONMENTS:
        good = checkout.good_pillar(_mail)
        good["access"]["default_user"] = f"canary{environment}"
        checkout.pillar(good, environment)
    checkout.roster({"mail": checkout.entry(_mail, environment="staging")})
    return checkout


def only(environment: str, result: Result) -> None:
    """Fail unless a run went well and knew the canary of one environment, and no other."""
    assert result.returncode == 0, result
    said = result.stdout + result.stderr
    assert {name for name in ENVIRONMENTS if f"canary{name}" in said} == {environment}, result


@pytest.mark.shown_by("roster", "pillarenv")
@pytest.mark.parametrize(
    ("words", "variables", "environment"),
    [
        ([], {}, "staging"),
        (["pillarenv=dev"], {}, "dev"),
        (["pillarenv=prod"], {"MAILHOST_ENV": "dev"}, "prod"),
        ([], {"MAILHOST_ENV": "prod"}, "prod"),
    ],
    ids=["roster", "pillarenv", "pillarenv over variable", "variable"],
)
def test_each_run_has_one_environment(
    entered: Host, tree: Checkout, words: list[str], variables: dict[str, str], environment: str
) -> None:
    if not words:  # Salt hands pillarenv= on to pillar.items itself, which does not know it
        shown = tree.salt("mail", "pillar.items", "--out=json", env=variables)
        only(environment, shown)
        assert shown.data()["mail"]["environment"] == environment
    dry = ["state.apply", "access.default_user_absent", "test=True", "-l", "debug"]
    applied = tree.salt("mail", *dry, *words, env=variables)
    only(environment, applied)
    assert f"mail: {environment}, by " in applied.stderr


def test_nothing_of_another_environment_is_on_the_host(entered: Host, tree: Checkout) -> None:
    assert tree.apply("access.default_user_absent").returncode == 0
    assert tree.apply("access.default_user_absent", words=["pillarenv=dev"]).returncode == 0
    places = ["/var/tmp", "/tmp", "/run", "/etc", "/root", "/home"]
    assert entered.run(["grep", "-rl", "canaryprod", *places], check=False).stdout == ""


@pytest.mark.parametrize("name", ["", "PROD", "prod ", "production", "base", "../dev"])
def test_no_other_environment_is_taken(tree: Checkout, name: str) -> None:
    for words, variables in (([f"pillarenv={name}"], {}), ([], {"MAILHOST_ENV": name})):
        result = tree.salt("mail", "state.apply", *words, "test=True", env=variables)
        assert result.returncode != 0, result
        assert f"{name!r} is no environment; there are dev, staging, prod" in result.stderr, result
        assert "canary" not in result.stdout + result.stderr


def test_an_environment_of_the_roster_that_does_not_exist(checkout: Checkout, _mail: Host) -> None:
    checkout.roster({"mail": checkout.entry(_mail, environment="live")})
    result = checkout.salt("mail", "state.apply", "test=True")
    assert result.returncode != 0
    assert "etc/salt/roster: environment: 'live' is no environment; there are dev, staging, prod" in result.stderr
