"""Look at backups and archiving, and say whether they are in order: for people, monitoring and Prometheus."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import ssl
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from . import (
    alarms,
    container,
    drill,
    heartbeat,
    metrics,
    pgbackrest,
    plan,
    proofs,
    receiver,
    restore,
    scratch,
    verify,
)
from .config import Config, Failed, Refused, alone, made

# What the last scheduled check saw of the clocks.
CLOCKS = "clocks.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Before PostgreSQL 17 a slot does not say since when it has no reader: by then it had not taken the next heartbeat.
QUESTION = """SELECT json_build_object(
    'archive_mode', current_setting('archive_mode'),
    'started', extract(epoch FROM pg_postmaster_start_time()),
    'max_wal_bytes', (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_wal_size'),
    'beat', (SELECT extract(epoch FROM max(beat_at)) FROM backup.heartbeat),
    'archiver', (SELECT json_build_object('archived_count', archived_count, 'failed_count', failed_count,
        'last_archived', extract(epoch FROM last_archived_time), 'last_failed_wal', last_failed_wal,
        'last_failed', extract(epoch FROM last_failed_time)) FROM pg_stat_archiver),
    'slots', (SELECT coalesce(json_agg(json_build_object('name', slot_name, 'active', active, 'status', wal_status,
        'idle', extract(epoch FROM now() - coalesce((to_jsonb(s)->>'inactive_since')::timestamptz,
            (SELECT min(beat_at) FROM backup.heartbeat WHERE lsn > s.restart_lsn))),
        'behind', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))), '[]') FROM pg_replication_slots s))"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print everything that was found as JSON")
    parser.add_argument("--textfile", metavar="FILE", help="write it for Prometheus' node exporter too")
    parser.add_argument(
        "--scheduled", action="store_true", help="as the timer does: write the heartbeat, and note the clock"
    )


def main(config: Config, asked: argparse.Namespace) -> int:
    """Look, print what was found and return how bad the worst of it is: 0, 1 or 2."""
    try:
        return _main(config, asked)
    except Exception as error:
        # Whatever it is: Python's own code for it is 1, a warning, of which nobody is told.
        traceback.print_exc()
        print(f"{alarms.LEVELS[alarms.CRITICAL]}: the check itself failed: {type(error).__name__}: {error}")
        return alarms.CRITICAL


def _main(config: Config, asked: argparse.Namespace) -> int:
    if asked.scheduled:
        _tidy(config)
    facts = look(config, beat=asked.scheduled)
    found = alarms.judge(facts, config.alarms, config.drill)
    textfile = asked.textfile or (config.alarms["textfile"] if asked.scheduled else None)
    if textfile:
        try:
            proofs.replace(Path(textfile), metrics.text(facts, found), 0o644)
        except OSError as error:
            found.append(alarms.Finding("textfile", alarms.CRITICAL, f"{textfile}: {error.strerror}"))
    if asked.scheduled:
        path = config.state / alarms.NAME
        proofs.replace(path, json.dumps(alarms.critical(found, proofs.read(path), facts["now"])), 0o640)
    worst = max(finding.level for finding in found)
    if asked.json:
        rows = [{"name": one.name, "level": alarms.LEVELS[one.level], "found": one.words} for one in found]
        print(json.dumps({"level": alarms.LEVELS[worst], "found": rows, "facts": facts}))
        return worst
    bad = sorted((finding for finding in found if finding.level), key=lambda finding: -finding.level)
    first = "; ".join(f"{one.name}: {one.words}" for one in bad) or "backups and archiving are in order"
    print(f"{alarms.LEVELS[worst]}: {first}")
    for one in found:
        print(f"{alarms.LEVELS[one.level]:8} {one.name}: {one.words}")
    return worst


def look(config: Config, beat: bool) -> dict[str, Any]:
    """Return the facts that `alarms.judge` judges.

    beat
        Whether to write the heartbeat, and to note the clocks for the next time.
    """
    server, why = None, ""
    try:
        query = f"{heartbeat.beat_sql('check') if beat else ''}{QUESTION}"
        server = json.loads(container.sql(config, query, config.database))
    except Failed as error:
        why = str(error)
    now = time.time()
    repositories = _repositories(config)
    drills = [proofs.last(config.state / proofs.NAME, made(config), number) for number in config.repositories]
    verified = proofs.read(config.state / verify.NAME) or None
    for one in (*drills, verified):
        if one:
            one["time"] = datetime.fromisoformat(one["finished"]).timestamp()
    proven = [proof["time"] for proof in drills if proof]
    times = [backup["stop"] for repository in repositories for backup in repository["backups"]]
    clocks = _clocks(config.state / CLOCKS, now, note=beat)
    return {
        "now": now,
        "server": server,
        "why": why,
        "repositories": repositories,
        "wal_age": _unarchived(config, now, (server or {}).get("started", 0.0)),
        "archive_bytes": scratch.size(config.archive),
        "waiting": _waiting(config.data / "pg_wal/archive_status", now),
        "pg_wal_bytes": scratch.size(config.data / "pg_wal") if (config.data / "pg_wal").is_dir() else None,
        "tail": receiver.SLOT if config.tail else None,
        "disks": _disks([config.data, config.archive, config.backups, *([config.tail] if config.tail else [])]),
        "drills": drills,
        "verified": verified,
        "step": clocks["step"],
        "certificate": _certificate(config.project / "tls/server.crt"),
        "newest_time": max([*times, (server or {}).get("beat") or 0, *proven, clocks["before"]]),
    }


def _tidy(config: Config) -> None:
    """Remove what an export has left that was killed, and a drill together with its guard."""
    with contextlib.suppress(Refused, Failed), alone(wait=False):
        scratch.remove()
        restore.clear_export(config)


def _repositories(config: Config) -> list[dict[str, Any]]:
    """Return what there is in each repository."""
    try:
        info = pgbackrest.info(config)
        cluster = config.marker.read_text(encoding="utf-8").strip()
    except (Failed, OSError) as error:
        return [{"number": 1, "why": str(error), "backups": [], "behind": None}]
    first = info.repositories[1].last_wal if 1 in info.repositories else None
    rows = []
    for number in config.repositories:
        there = info.repositories.get(number)
        behind = None
        if number > 1 and there and first and there.last_wal:
            behind = max(0, plan.segment_number(first)[1] - plan.segment_number(there.last_wal)[1])
        backups = [
            {
                "label": backup.label,
                "kind": backup.kind,
                "stop": backup.stop.timestamp(),
                "size": backup.size,
                "repository_size": backup.repository_size,
                "damaged": backup.damaged,
            }
            for backup in info.of(cluster, number)
        ]
        rows.append({"number": number, "why": there.why if there else None, "backups": backups, "behind": behind})
    return rows


def _unarchived(config: Config, now: float, started: float) -> float | None:
    """Return since how many seconds nothing has reached this host's archive, None when nothing ever has.

    started
        When the server was: while it was down, nothing was to be archived.
    """
    newest = None
    for path in drill.segment_files(config):
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest or started, path.stat().st_mtime)
    return None if newest is None else now - newest


def _waiting(directory: Path, now: float) -> list[float]:
    """Return the ages of the segments that wait for the archive, in seconds."""
    ages = []
    for path in directory.glob("*.ready"):
        with contextlib.suppress(FileNotFoundError):
            ages.append(now - path.stat().st_mtime)
    return ages


def _disks(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the free room of each file system once, in percent of what ordinary users may have."""
    seen, rows = set(), []
    for path in paths:
        if not path.is_dir() or (device := path.stat().st_dev) in seen:
            continue
        seen.add(device)
        found = os.statvfs(path)
        room = found.f_blocks - found.f_bfree + found.f_bavail
        rows.append(
            {
                "path": str(path),
                "free": 100 * found.f_bavail / room if room else 0.0,
                # Some file systems make inodes as they need them, and say 0.
                "free_inodes": 100 * found.f_favail / found.f_files if found.f_files else 100.0,
            }
        )
    return rows


def _certificate(path: Path) -> dict[str, Any]:
    """Return when the server's certificate ends, or why that is not known."""
    try:
        said = container.run(["openssl", "x509", "-noout", "-enddate", "-in", str(path)])
    except Failed as error:
        return {"ends": None, "why": str(error)}
    return {"ends": ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter=")), "why": ""}


def _clocks(path: Path, now: float, note: bool) -> dict[str, Any]:
    """Compare the wall clock with the one that only runs; return when the last check was, and the last step.

    note
        Whether to write down what the next check compares with.
    """
    running, boot = time.clock_gettime(time.CLOCK_BOOTTIME), _BOOT.read_text(encoding="utf-8").strip()
    last = proofs.read(path)
    before, step = last.get("wall", 0.0), last.get("step")
    moved = now - before - (running - last["running"]) if last.get("boot") == boot else 0.0
    if abs(moved) > alarms.CLOCK_STEP:
        step = {"at": now, "seconds": round(moved, 1)}
    elif step and not 0 <= now - step["at"] <= alarms.CLOCK_HOURS * 3600:
        step = None
    if note:
        proofs.replace(path, json.dumps({"wall": now, "running": running, "boot": boot, "step": step}), 0o640)
    return {"before": before, "step": step}
