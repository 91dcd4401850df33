"""What all tests share: a failure is said when it happens, and tables are printed at the end.

Here, not beside the tests on hosts: the process that writes the summary of pytest-xdist reads this file only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from labkit import tables

LEFT_OUT = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[LEFT_OUT] = {}


@pytest.hookimpl(tryfirst=True)  # before pytest's own, which leaves out
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark what is thorough, and refuse a thorough test that does not say why it is one: the summary prints it."""
    for item in items:
        cases = item.get_closest_marker("shown_by")
        if cases and isinstance(item, pytest.Function) and item.callspec.id not in cases.args:
            item.add_marker(pytest.mark.thorough("further cases of a test of which some run"))
        if (mark := item.get_closest_marker("thorough")) and not mark.args:
            raise pytest.UsageError(f"{item.nodeid}: thorough: give the reason, as in @pytest.mark.thorough('…')")


def pytest_deselected(items: Iterable[pytest.Item]) -> None:
    """Count the thorough tests that this run leaves out."""
    for item in items:
        if mark := item.get_closest_marker("thorough"):
            counts = item.config.stash[LEFT_OUT]
            counts[mark.args[0]] = counts.get(mark.args[0], 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count on to the process that writes the summary."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of pytest-xdist counted: each of them has collected, and left out, the same."""
    if output := getattr(node, "workeroutput", None):
        node.config.stash[LEFT_OUT] = output["left out"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failed test's name and what failed in it at once: a run that is killed has no summary."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        words = crash.message if crash else report.longreprtext
        print(f"\n{report.nodeid} failed ({report.when}): {words.strip()[:500]}", flush=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables, and say what was left out, and why."""
    tables.write(terminalreporter)
    left_out = terminalreporter.config.stash[LEFT_OUT]
    if left_out:
        terminalreporter.section(f"{sum(left_out.values())} tests left out, which `make test-all` runs too")
        for reason, count in sorted(left_out.items()):
            terminalreporter.write_line(f"{count:4} {reason}")
