"""Read every file of the repositories and compare its checksum."""

from __future__ import annotations

import argparse

from . import pgbackrest
from .config import Config, Failed, alone


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--repository", type=int, choices=(1, 2), help="only this one; else all")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it. pgBackRest ends with 0 whatever it finds: what it prints is judged."""
    wrong = []
    with alone(wait=False):
        for number in (asked.repository,) if asked.repository else config.repositories:
            said = pgbackrest.run(config, f"--repo={number}", "--output=text", "--verbose", "verify")
            print(said.strip())
            if "status: ok" not in said:
                wrong.append(f"repository {number} has errors")
    if wrong:
        raise Failed("; ".join(wrong))
    return 0
