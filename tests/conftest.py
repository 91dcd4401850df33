"""What all tests share: a failure is said when it happens."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failed test's name and what failed in it at once: a run that is killed has no summary."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        words = crash.message if crash else report.longreprtext
        print(f"\n{report.nodeid} failed ({report.when}): {words.strip()[:500]}", flush=True)
