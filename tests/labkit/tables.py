"""The tables that the suite prints at its end: rows come with the reports of tests, whichever process ran them."""

from __future__ import annotations

import pytest

from . import exactness, exposure

# Under these names a test's report carries rows.
EXACTNESS, FRONT_DOOR, EXPOSURE = "exactness", "front door", "exposure"
_TABLES = {
    EXACTNESS: ("dry run against apply, on real hosts", exactness.HEADER),
    EXPOSURE: ("what of a host is reached", exposure.HEADER),
    FRONT_DOOR: ("how salt-ssh ends", ("case", "exit code", "seconds", "what is said first")),
}


def write(terminalreporter: pytest.TerminalReporter) -> None:
    """Print those that have rows."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    found = [pair for report in reports if report.when == "call" for pair in report.user_properties]
    for name, (title, header) in _TABLES.items():
        rows = [row for kind, row in found if kind == name]
        if rows:
            terminalreporter.section(title)
            terminalreporter.write_line(exactness.table(header, rows))
