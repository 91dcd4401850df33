"""Tell the operator's hook that a unit failed: once for each reason, and again while it lasts."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from . import alarms, container, proofs
from .config import Config, Failed

# What was told already, by unit.
TOLD = "told.json"
AGAIN = 4 * 3600
_LINES = 20


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("unit", help="the unit's name")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Run the hook, if there is one: the unit as its argument, what the unit said last on its standard input."""
    if not config.hook:
        return 0
    path, now = config.state / TOLD, time.time()
    reason = _reason(config.state, asked.unit)
    told = proofs.read(path)
    if not due(told.get(asked.unit), reason, now):
        return 0
    argv = ["journalctl", f"--unit={asked.unit}", f"--lines={_LINES}", "--output=cat", "--no-pager"]
    # Of the run that failed, where systemd says which it was (systemd.exec(5)).
    argv += [f"--invocation={run}"] if (run := os.environ.get("MONITOR_INVOCATION_ID")) else []
    said = container.run(argv, timeout=60)
    try:
        # Not by container.run: this one may do with its output and its environment what it likes.
        done = subprocess.run([config.hook, asked.unit], input=said, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{config.hook}: {error}") from None
    if done.returncode:
        raise Failed(f"{config.hook}: exit code {done.returncode}")
    path.write_text(json.dumps({**told, asked.unit: {"reason": reason, "at": now}}), encoding="utf-8")
    return 0


def due(last: dict[str, Any] | None, reason: str, now: float) -> bool:
    """Return whether the hook is to be told: for another reason than the last time, or again.

    last
        What was told last of the unit: reason and at; None when nothing was.
    reason
        Why it failed; "" where every failure is news.
    """
    return not (last and reason and last["reason"] == reason and 0 <= now - last["at"] < AGAIN)


def _reason(state: Path, unit: str) -> str:
    """Return what is wrong and since when, for the check, which looks every few minutes; "" for the other units."""
    if unit.removesuffix(".service") != "mailhost-pg-check":
        return ""
    found = proofs.read(state / alarms.NAME)
    return f"{', '.join(found['names'])} since {found['since']}" if found.get("names") else ""
