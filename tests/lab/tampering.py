"""What somebody does to a host that was in order, for tests of what the tree then says and does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from labkit.checkout import Run


@dataclass(frozen=True)
class Tamper:
    """A shell script, and what a test expects of the runs after it."""

    id: str
    script: str
    expected: tuple[str, ...] = ()


def each(tampers: Sequence[Tamper]) -> pytest.MarkDecorator:
    """Return the mark that gives a test each of them as ``tamper``."""
    return pytest.mark.parametrize("tamper", tampers, ids=lambda tamper: tamper.id.replace(" ", "-"))


def changes(run: Run) -> set[str]:
    """Return what a run changed: each state's id and what of it."""
    return {f"{name}: {what}" for name, made in run.changed.items() for what in made}
