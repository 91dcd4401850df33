"""What the README shows is what a run prints."""

from __future__ import annotations

import difflib

import pytest

from labkit import Host
from labkit.checkout import Checkout
from labkit.demo import README, played, shown, steady

pytestmark = pytest.mark.lab


def test_the_transcripts_of_the_readme_are_real(fresh: Host, checkout: Checkout) -> None:
    readme = README.read_text(encoding="utf-8")
    differences: list[str] = []
    for name, code, text in played(checkout):
        assert code == 0, text
        wanted, found = shown(readme, name).splitlines(), steady(name, text).splitlines()
        differences += difflib.unified_diff(wanted, found, f"README.md {name}", "this run", lineterm="", n=1)
    assert not differences, "\n".join([*differences, "", "`make readme` writes them anew"])
