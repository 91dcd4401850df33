"""Tell the operator's hook that a unit failed."""

from __future__ import annotations

import argparse

from . import container
from .config import Config


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("unit", help="the unit's name")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Run the hook, if there is one, with the unit's name."""
    if config.hook:
        container.run([config.hook, asked.unit], timeout=300)
    return 0
