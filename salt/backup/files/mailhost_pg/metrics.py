"""What a check found, in the text format that Prometheus' node exporter takes from a file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .alarms import Finding

_PREFIX = "mailhost_pg"


def text(facts: dict[str, Any], found: Iterable[Finding]) -> str:
    """Return facts and findings as metrics.

    facts
        What `check.look` returns.
    """
    server, now = facts["server"] or {}, facts["now"]
    archiver = server.get("archiver", {})
    rows: list[tuple[str, str, dict[str, Any], Any]] = [
        ("check_time_seconds", "when this was looked at", {}, now),
        *(("alarm", "0 in order, 1 warning, 2 critical", {"of": one.name}, one.level) for one in found),
    ]
    for repository in facts["repositories"]:
        labels, backups = {"repository": repository["number"]}, repository["backups"]
        if backups:
            rows += [
                ("backup_age_seconds", "age of the newest base backup", labels, now - backups[-1]["stop"]),
                ("backup_bytes", "what the newest base backup is when restored", labels, backups[-1]["size"]),
            ]
        stored = sum(backup["repository_size"] for backup in backups)
        rows.append(("backups_stored_bytes", "what all base backups take in the repository", labels, stored))
    rows += [
        ("wal_age_seconds", "since when nothing has reached the archive", {}, facts["wal_age"]),
        ("wal_stored_bytes", "what WAL takes in the archive", {}, facts["archive_bytes"]),
        ("wal_waiting", "segments that wait for the archive", {}, len(facts["waiting"])),
        ("pg_wal_bytes", "what pg_wal takes", {}, facts["pg_wal_bytes"]),
        ("archived_total", "segments that the server has archived", {}, archiver.get("archived_count")),
        ("archive_failures_total", "attempts that failed", {}, archiver.get("failed_count")),
        *(
            ("slot_behind_bytes", "WAL kept for a slot", {"slot": slot["name"]}, slot["behind"])
            for slot in server.get("slots", ())
        ),
        *(("disk_free_percent", "free room", {"path": disk["path"]}, disk["free"]) for disk in facts["disks"]),
    ]
    for number, proof in enumerate(facts["drills"], start=1):
        if proof:
            labels = {"repository": number}
            rows += [
                ("drill_age_seconds", "age of the last restore drill", labels, now - proof["time"]),
                ("drill_passed", "whether it passed", labels, int(proof["passed"])),
                ("drill_rpo_seconds", "writes that a loss would have cost", labels, proof.get("rpo_seconds")),
                (
                    "drill_rto_seconds",
                    "from the beginning of the restore to a server",
                    labels,
                    proof.get("rto_seconds"),
                ),
            ]
    lines, named = [], set()
    for name, help_, labels, value in sorted(rows, key=lambda row: row[0]):
        if value is None:
            continue
        if name not in named:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {_PREFIX}_{name} {help_}", f"# TYPE {_PREFIX}_{name} {kind}"]
            named.add(name)
        shown = ",".join(f'{key}="{_escaped(str(label))}"' for key, label in labels.items())
        lines.append(f"{_PREFIX}_{name}{{{shown}}} {value}" if shown else f"{_PREFIX}_{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    """Return a label's value as the format writes it."""
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
