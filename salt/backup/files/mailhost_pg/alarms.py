"""What of the backups is a reason for an alarm. Pure: facts in, findings out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

# What is critical, and since when it has been just that: written by the scheduled check, read by the hook.
NAME = "alarms.json"
OK, WARNING, CRITICAL = 0, 1, 2
LEVELS = ("OK", "WARNING", "CRITICAL")
_MB = 1 << 20
_SEGMENT = 16 * _MB
# A backup of a database that lost half of what it had says something, whatever its age.
_SHRUNK = 0.5
# Beyond what time services do to a clock that runs: they slew it.
CLOCK_STEP = 10.0
# A step is over in a moment; the backups it confused stay.
CLOCK_HOURS = 24
# Hours after which a repository should have been read through again: its timer is weekly.
_READ_HOURS = 8 * 24
# Days before the end of the server's certificate, after which no client with verify-full comes in.
_ENDS_SOON, _ENDS_NOW = 30, 7


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its name, how bad it is, and what was seen."""

    name: str
    level: int
    words: str


def judge(facts: dict[str, Any], limits: dict[str, Any], drill: dict[str, Any]) -> list[Finding]:
    """Return what was found of each thing, good or bad.

    facts
        What `check.look` returns.
    limits
        The pillar's alarms: from there it is a warning, from twice that it is critical.
    drill
        The pillar's settings of the drill.
    """
    server = facts["server"]
    found = [_server(server, facts["why"])]
    for repository in facts["repositories"]:
        found += _backups(repository, facts["now"], limits["backup_age_hours"])
    found.append(_wal_age(facts, limits["wal_age_minutes"]))
    found.append(_waiting(facts["waiting"], limits))
    found.append(_pg_wal(facts["pg_wal_bytes"], (server or {}).get("max_wal_bytes", 1 << 30), limits["pg_wal_mb"]))
    if server:
        found.append(_archiver(server["archiver"], facts["wal_age"], limits["wal_age_minutes"]))
        found += [_slot(slot, limits) for slot in server["slots"]]
        if facts["tail"] and facts["tail"] not in [slot["name"] for slot in server["slots"]]:
            found.append(Finding(f"slot {facts['tail']}", CRITICAL, "is not there: WAL is not taken as it is written"))
    found += [_disk(disk, limits["disk_free_percent"]) for disk in facts["disks"]]
    found += [
        _drill(number, proof, facts["now"], drill_hours(drill, number))
        for number, proof in enumerate(facts["drills"], start=1)
    ]
    found.append(_verified(facts))
    found.append(_clock(facts))
    found.append(_certificate(facts["certificate"], facts["now"]))
    return found


def _level(value: float, warning: float) -> int:
    """Return how bad a value is that should be small."""
    return CRITICAL if value > 2 * warning else WARNING if value > warning else OK


def _server(server: dict[str, Any] | None, why: str) -> Finding:
    if server is None:
        return Finding("server", CRITICAL, f"the server does not answer: {why}")
    if server["archive_mode"] != "on":
        return Finding("server", CRITICAL, f"archive_mode is {server['archive_mode']}: nothing is archived")
    return Finding("server", OK, "answers")


def _backups(repository: dict[str, Any], now: float, hours: float) -> list[Finding]:
    name = f"backup {repository['number']}"
    if repository["why"]:
        return [Finding(name, CRITICAL, f"repository {repository['number']} cannot be read: {repository['why']}")]
    if not repository["backups"]:
        return [Finding(name, CRITICAL, f"repository {repository['number']} has no base backup")]
    newest = repository["backups"][-1]
    age = (now - newest["stop"]) / 3600
    found = [Finding(name, _level(age, hours), f"{newest['label']} is {age:.1f} h old")]
    if newest["damaged"]:
        found.append(Finding(f"{name} pages", CRITICAL, f"{newest['label']} has pages whose checksums are wrong"))
    if len(repository["backups"]) > 1:
        before = repository["backups"][-2]
        small = newest["size"] < _SHRUNK * before["size"]
        words = f"{newest['size'] / 1e6:.0f} MB, and {before['size'] / 1e6:.0f} MB the time before"
        found.append(Finding(f"{name} size", WARNING if small else OK, words))
    if repository["behind"] is not None:
        level = _level(repository["behind"] * _SEGMENT, 8 * _SEGMENT)
        words = f"its newest segment is {repository['behind']} behind that of repository 1"
        found.append(Finding(f"WAL {repository['number']}", level, words))
    return found


def _wal_age(facts: dict[str, Any], minutes: float) -> Finding:
    age = facts["wal_age"]
    if age is None:
        return Finding("WAL age", CRITICAL, "nothing has been archived")
    return Finding("WAL age", _level(age / 60, minutes), f"nothing has reached the archive for {age / 60:.1f} min")


def _archiver(archiver: dict[str, Any], age: float | None, minutes: float) -> Finding:
    failed, done = archiver["last_failed"], archiver["last_archived"]
    if failed is None or (done is not None and failed <= done):
        return Finding("archiver", OK, f"{archiver['archived_count']} archived, {archiver['failed_count']} failed")
    level = CRITICAL if age is None or age / 60 > minutes else WARNING
    return Finding("archiver", level, f"{archiver['last_failed_wal']} cannot be archived: the server's log says why")


def _waiting(waiting: list[float], limits: dict[str, Any]) -> Finding:
    """Judge segments that wait for the archive, by their ages in seconds."""
    old = sum(age > 60 * limits["wal_age_minutes"] for age in waiting)
    megabytes = len(waiting) * _SEGMENT / _MB
    level = max(WARNING if old else OK, _level(megabytes, limits["pg_wal_mb"]))
    return Finding("waiting", level, f"{len(waiting)} segments wait for it ({megabytes:.0f} MB), {old} too long")


def _pg_wal(size: int | None, most: int, megabytes: float) -> Finding:
    if size is None:
        return Finding("pg_wal", CRITICAL, "there is no pg_wal")
    beyond = max(0, size - most) / _MB
    words = f"{size / _MB:.0f} MB, and max_wal_size is {most / _MB:.0f} MB"
    return Finding("pg_wal", _level(beyond, megabytes), words)


def _slot(slot: dict[str, Any], limits: dict[str, Any]) -> Finding:
    behind = (slot["behind"] or 0) / _MB
    level = {"reserved": OK, "extended": WARNING}.get(slot["status"], CRITICAL)
    level = max(level, _level(behind, limits["pg_wal_mb"]))
    if not slot["active"]:
        level = max(level, CRITICAL if (slot["idle"] or 0) / 60 > limits["wal_age_minutes"] else WARNING)
    reader = "is read" if slot["active"] else "has no reader"
    return Finding(f"slot {slot['name']}", level, f"{reader}, {behind:.0f} MB behind, {slot['status'] or 'lost'}")


def _disk(disk: dict[str, Any], percent: float) -> Finding:
    free = min(disk["free"], disk["free_inodes"])
    what = "inodes" if disk["free_inodes"] < disk["free"] else "room"
    level = CRITICAL if free < percent / 2 else WARNING if free < percent else OK
    return Finding(f"disk {disk['path']}", level, f"{free:.0f} % of its {what} is free")


def drill_hours(drill: dict[str, Any], repository: int) -> float:
    """Return how long a proof that a repository can be restored from is worth something.

    That of the host's own is made anew each day, of the one off the host so many days later.
    """
    later = 24 * (drill["offsite_days"] - 1) if repository > 1 else 0
    return float(drill["max_age_hours"] + later)


def _drill(repository: int, proof: dict[str, Any] | None, now: float, hours: float) -> Finding:
    name, off = ("drill", "") if repository == 1 else (f"drill {repository}", f" from repository {repository}")
    if proof is None:
        return Finding(name, CRITICAL, f"no restore drill{off} has ended yet")
    age = (now - proof["time"]) / 3600
    if not proof["passed"]:
        return Finding(name, CRITICAL, f"failed{off} {age:.1f} h ago: {'; '.join(proof['found'])}")
    return Finding(name, CRITICAL if age > hours else OK, f"passed{off} {age:.1f} h ago")


def _verified(facts: dict[str, Any]) -> Finding:
    """Judge when all was read through last; where it never was, it should be a while after the oldest backup."""
    last, backups = facts["verified"], [row for repository in facts["repositories"] for row in repository["backups"]]
    if last and last["found"]:
        return Finding("verify", CRITICAL, "; ".join(last["found"]))
    since = last["time"] if last else min((row["stop"] for row in backups), default=facts["now"])
    age = (facts["now"] - since) / 3600
    words = f"every file was in order {age:.1f} h ago" if last else "every file is to be read for the first time"
    return Finding("verify", _level(age, _READ_HOURS), words)


def _clock(facts: dict[str, Any]) -> Finding:
    """Judge the clock: backups and moments to restore to are picked by it."""
    ahead = facts["newest_time"] - facts["now"]
    if ahead > CLOCK_STEP:
        return Finding("clock", CRITICAL, f"it is {ahead:.0f} s before what was written last: it was set back")
    step = facts["step"]
    if step is None:
        return Finding("clock", OK, "runs evenly")
    hours = (facts["now"] - step["at"]) / 3600
    return Finding("clock", WARNING, f"was set by {step['seconds']:+.0f} s {hours:.1f} h ago")


def _certificate(certificate: dict[str, Any], now: float) -> Finding:
    """Judge when the certificate that the server shows ends."""
    if certificate["why"]:
        return Finding("certificate", CRITICAL, f"cannot be read: {certificate['why']}")
    days = (certificate["ends"] - now) / 86400
    level = CRITICAL if days < _ENDS_NOW else WARNING if days < _ENDS_SOON else OK
    words = f"ends in {days:.0f} days" if days > 0 else f"ended {-days:.0f} days ago: clients refuse it"
    return Finding("certificate", level, words)


def critical(found: Iterable[Finding], before: dict[str, Any], now: float) -> dict[str, Any]:
    """Return the names of what is critical, and since when it has been just these.

    before
        The same of the last time.
    """
    names = sorted(finding.name for finding in found if finding.level == CRITICAL)
    return before if before.get("names") == names else {"names": names, "since": now}
