"""Units of systemd: what differs between the one that is wanted and the one that is there. Pure."""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "ActiveEnterTimestamp", "StateChangeTimestamp")

# What a unit file without [Install], or one made by a generator, says of itself: it cannot be enabled (systemctl(1)).
UNSWITCHABLE = ("static", "generated", "transient", "indirect", "alias")


def parse(shown: str) -> dict[str, Any]:
    """Return a unit as ``systemctl show --timestamp=us+utc`` prints it.

    active and enabled are systemd's own words; started and changed are seconds since 1970, 0 when that never was: when
    the unit became active, and when its state last changed (which a reload does too).
    """
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {
        "load": found["LoadState"],
        "active": found["ActiveState"],
        "enabled": found["UnitFileState"] or "disabled",
        "started": _seconds(found["ActiveEnterTimestamp"]),
        "changed": _seconds(found["StateChangeTimestamp"]),
    }


def _seconds(stamp: str) -> float:
    if not stamp:
        return 0.0
    parsed = datetime.datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f UTC")
    return parsed.replace(tzinfo=datetime.UTC).timestamp()


def plan_running(
    unit: Mapping[str, Any], *, brought: bool, enabled: bool, restart: Iterable[str] = (), reload: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the changes that let a unit run, by what changes: service, enabled, active, restarted, reloaded.

    unit
        What ``mailhost_service.look`` found.
    brought
        Whether this very run installs its package: whether that starts it too is Debian's business, the change is one.
    enabled
        Whether it is wanted at boot too.
    restart, reload
        Files that changed since it started, or since it last read them.
    """
    if brought:
        return {"service": {"old": None, "new": "active, enabled" if enabled else "active"}}
    changes: dict[str, Any] = {}
    if enabled and unit["enabled"] not in ("enabled", *UNSWITCHABLE):
        changes["enabled"] = {"old": unit["enabled"], "new": "enabled"}
    if not unit["startable"]:
        return changes
    if unit["active"] not in ("active", "reloading"):
        changes["active"] = {"old": unit["active"], "new": "active"}
    elif files := sorted(restart):
        changes["restarted"] = f"for {', '.join(files)}"
    elif files := sorted(reload):
        changes["reloaded"] = f"for {', '.join(files)}"
    return changes


def plan_masked(unit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that keep a unit from ever running."""
    changes: dict[str, Any] = {}
    if unit["enabled"] != "masked":
        changes["enabled"] = {"old": unit["enabled"], "new": "masked"}
    if unit["active"] in ("active", "reloading", "activating"):
        changes["active"] = {"old": unit["active"], "new": "inactive"}
    return changes


def newer(changed: Mapping[str, float], since: float, forecast: Iterable[str]) -> list[str]:
    """Return the paths that changed after a moment, and those that this dry run would change.

    changed
        Seconds since 1970 of the last change, by path.
    """
    expected = set(forecast)
    return [path for path, moment in changed.items() if moment > since or path in expected]


def known(name: str, unit: Mapping[str, Any], *, brought: bool, forecast: Iterable[str]) -> dict[str, Any]:
    """Return a unit that is there, or that this dry run would bring with a file of its own.

    Raises CommandExecutionError when nothing would bring it: a misspelt name must not pass a dry run.
    """
    if unit["load"] != "not-found" or brought:
        return dict(unit)
    if not any(path.startswith("/etc/systemd/system/") and path.endswith(f"/{name}") for path in forecast):
        raise CommandExecutionError(f"{name}: no such unit")
    return {**unit, "startable": True}
