"""The command drill."""

from __future__ import annotations

import argparse

from .config import Config, Refused


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--scheduled", action="store_true", help="as the timer does")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it."""
    raise Refused("is not built yet")
