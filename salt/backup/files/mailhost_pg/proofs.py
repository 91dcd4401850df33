"""What the tool keeps: proofs of drills, one JSON object a line with the newest last, and small notes of its own."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

NAME = "drills.jsonl"


def file(path: Path, proof: dict[str, Any]) -> None:
    """Add a proof to the file, and return when it is on the disk."""
    with path.open("ab+") as stream:
        os.fchmod(stream.fileno(), 0o640)
        # A power cut may have left half a line.
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            stream.write(b"" if stream.read(1) == b"\n" else b"\n")
        stream.write(json.dumps(proof).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def last(path: Path, cluster: str | None, repository: int = 1) -> dict[str, Any] | None:
    """Return a repository's newest proof, None when none can be read; a power cut may have left half a line.

    cluster
        The system identifier of the one that this host made: a drill of one before it proves nothing of its backups.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            found: dict[str, Any] = json.loads(line)
            datetime.fromisoformat(found["finished"]), found["passed"]
        except (ValueError, KeyError, TypeError):
            continue
        if (found.get("repository"), found.get("cluster")) == (repository, cluster):
            return found
    return None


def sentence(proof: dict[str, Any]) -> str:
    """Return a proof in one sentence."""
    off = f" from repository {proof['repository']}" if proof["repository"] != 1 else ""
    if not proof["passed"]:
        return f"the drill{off} of {proof['finished']} failed: {'; '.join(proof['found'])}"
    rpo = "" if proof["rpo_seconds"] is None else f"; a loss just then would have cost {proof['rpo_seconds']:.0f} s"
    return (
        f"{proof['backup']['label']} and its WAL were restored{off} up to {proof['lsn']} in"
        f" {proof['rto_seconds']:.0f} s, with {sum(proof['rows'].values())} rows as in the live server,"
        f" no page or index damaged{rpo}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the object in a file of the tool's own, an empty one when there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def replace(path: Path, text: str, mode: int) -> None:
    """Write a file anew in one step: who reads it at that moment gets the old one or the new one."""
    # Not *.prom: the node exporter reads all that are.
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(mode)
    new.replace(path)
