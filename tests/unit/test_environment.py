"""Which environment a run uses, and that no other is ever fallen back to."""

import pytest

import mailhost_environment
from mailhost_environment import UnknownEnvironment, chosen


@pytest.mark.parametrize(
    ("argv", "environ", "grain", "expected"),
    [
        (["state.apply", "pillarenv=staging"], {"MAILHOST_ENV": "dev"}, "prod", "staging"),
        (["state.apply", "pillarenv=staging", "pillarenv=dev"], {}, None, "dev"),
        (["state.apply"], {"MAILHOST_ENV": "dev"}, "prod", "dev"),
        (["state.apply", "test=True"], {}, "prod", "prod"),
    ],
)
def test_the_nearest_word_counts(argv: list[str], environ: dict[str, str], grain: str | None, expected: str) -> None:
    assert chosen(argv, environ, grain) == expected


@pytest.mark.parametrize(
    ("argv", "environ", "grain", "sentence"),
    [
        (["pillarenv=stagin"], {}, "prod", "pillarenv: 'stagin' is no environment; there are dev, staging, prod"),
        (["pillarenv="], {}, "prod", "pillarenv: '' is no environment; there are dev, staging, prod"),
        ([], {"MAILHOST_ENV": "x"}, "prod", "MAILHOST_ENV: 'x' is no environment; there are dev, staging, prod"),
        ([], {}, "Prod", "etc/salt/roster: environment: 'Prod' is no environment; there are dev, staging, prod"),
    ],
)
def test_an_unknown_one_is_refused(argv: list[str], environ: dict[str, str], grain: str | None, sentence: str) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        chosen(argv, environ, grain)
    assert str(caught.value) == sentence


def test_none_is_refused() -> None:
    with pytest.raises(UnknownEnvironment, match="no environment is named"):
        chosen([], {}, None)


def test_there_is_a_pillar_for_each() -> None:
    from compiled import ROOT

    on_disk = {path.parent.name for path in (ROOT / "pillar").glob("*/init.sls")}
    assert on_disk == set(mailhost_environment.ENVIRONMENTS)
