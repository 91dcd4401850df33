"""Which hosts a run is for: every name that is typed must be one, or nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.checkout import Checkout

HOST = {"host": "203.0.113.5", "environment": "dev"}


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["nobody"], "nobody"),
        (["n*"], "n*"),
        (["-L", "mail,mail-stagign"], "mail-stagign"),
        (["-L", "mial,mail,mail-stagign"], "mial, mail-stagign"),
        (["-E", "m.*g$"], "m.*g$"),
    ],
)
def test_a_name_that_is_no_host_ends_the_run(tmp_path: Path, words: list[str], missing: str) -> None:
    with Checkout(tmp_path / "c") as checkout:
        checkout.roster({"mail": HOST, "mail-staging.example": HOST})
        done = checkout.salt(*words, "state.apply")
    assert done.returncode == 1, done
    assert f"{missing}: no such host in etc/salt/roster; there are mail, mail-staging.example" in done.stderr, done
    assert "Traceback" not in done.stderr, done
