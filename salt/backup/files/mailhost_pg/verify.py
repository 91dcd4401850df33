"""Read every file of the repositories, compare its checksum, and look for WAL that is missing in between.

The drill reads the newest backup and the WAL after it; this the older ones too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from . import pgbackrest, proofs, restore, scratch
from .config import Config, Failed, Refused, alone

# 16 MB each: so many of them are one step of a name's middle part.
SEGMENTS = 0x100
# What was found last: finished and found.
NAME = "verified.json"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--repository", type=int, choices=(1, 2), help="only this one; else all")
    parser.add_argument(
        "--scheduled",
        action="store_true",
        help="as the timer does: wait for another job to end, and of repository 2 look only which segments there are",
    )


def gaps(names: Iterable[str]) -> list[str]:
    """Return the segments after which WAL is missing, in words; a time line of its own has no gap to the one before.

    Params: names, of the archive's files, as `pgbackrest repo-ls` has them.
    """
    lines: dict[str, set[int]] = {}
    for name in names:
        if found := re.search(r"(?:^|/)([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}", name):
            lines.setdefault(found[1], set()).add(int(found[2], 16) * SEGMENTS + int(found[3], 16))
    return [
        f"after segment {line}{one // SEGMENTS:08X}{one % SEGMENTS:08X} {following - one - 1} are missing"
        for line, numbers in sorted(lines.items())
        for one, following in itertools.pairwise(sorted(numbers))
        if following != one + 1
    ]


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it. pgBackRest ends with 0 whatever it finds, and passes over a gap: what it prints is judged."""
    if asked.repository and asked.repository not in config.repositories:
        raise Refused(f"there is no repository {asked.repository}: backup.offsite.type is null")
    wrong, silent = [], []
    with alone(wait=asked.scheduled):
        scratch.remove()
        restore.clear_export(config)
        for number in (asked.repository,) if asked.repository else config.repositories:
            try:
                # To read all that is off the host has its price; that it can be restored from is what the drill shows.
                wrong += look(config, number, listing=asked.scheduled and number > 1)
            except Failed as error:
                silent.append(f"repository {number}: {error}")
        # Without what could not be read nobody knows that all is in order: what was known before still counts.
        if asked.repository in (None, 1) and (wrong or not silent):
            note = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "found": wrong}
            proofs.replace(config.state / NAME, json.dumps(note), 0o640)
    if wrong or silent:
        raise Failed("; ".join([*wrong, *silent]))
    return 0


def look(config: Config, repository: int, listing: bool) -> list[str]:
    """Return in words what is wrong in a repository. Params: listing, whether to look only which segments there are."""
    wrong = []
    if not listing:
        said = pgbackrest.run(config, f"--repo={repository}", "--output=text", "--verbose", "verify").strip()
        print(f"repository {repository}: {said}")
        if "status: ok" not in said:
            wrong.append(f"repository {repository} has damaged files")
    words = [f"--repo={repository}", "--recurse", "--output=json", "repo-ls", f"archive/{config.stanza}"]
    listed = json.loads(pgbackrest.run(config, *words))
    # Those of a cluster that was here before lie in a directory of their own.
    for directory in sorted({name.split("/")[0] for name in listed if "/" in name}):
        inside = [name for name in listed if name.startswith(f"{directory}/")]
        wrong += [f"repository {repository}: {gap}" for gap in gaps(inside)]
    return wrong
