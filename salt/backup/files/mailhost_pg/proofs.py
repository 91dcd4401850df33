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


def last(path: Path) -> dict[str, Any] | None:
    """Return the newest proof, None when there is none that can be read; a power cut may have left half a line."""
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
        return found
    return None


def sentence(proof: dict[str, Any]) -> str:
    """Return a proof in one sentence."""
    if not proof["passed"]:
        return f"the drill of {proof['finished']} failed: {'; '.join(proof['found'])}"
    rpo = "" if proof["rpo_seconds"] is None else f"; a loss just then would have cost {proof['rpo_seconds']:.0f} s"
    return (
        f"{proof['backup']['label']} and its WAL were restored up to {proof['lsn']} in {proof['rto_seconds']:.0f} s,"
        f" with {sum(proof['rows'].values())} rows as in the live server, no page or index damaged{rpo}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return the object in a file of the tool's own, an empty one when there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
