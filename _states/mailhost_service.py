"""Units of systemd, exact in a dry run: also before the package that brings them is there, and with their restarts."""

from salt.exceptions import CommandExecutionError

import mailhost_forecast
import mailhost_service
from mailhost_result import explained, outcome

__all__ = ["masked", "running"]


@explained
def running(name, package=None, enabled=True, restart_after=(), reload_after=(), done=None):
    """Let a unit run, now and (enabled) after every boot, with its files as they are now.

    name
        The unit's whole name, e.g. ``fail2ban.service``.
    package
        The package that brings the unit, where this task installs it: Debian starts some services on installation and
        others not, and the dry run cannot see which.
    enabled
        Whether it is started at boot; False leaves that as it is.
    restart_after, reload_after
        Paths of files, or of directories for what comes and goes in them. The unit is restarted, or reloaded, when one
        changed after it started, or last changed its state: by the clock, so that a run that was cut off between the
        file and the restart is made good by the next one.

    done
        The path that the unit makes, where it has a single thing to do: once that is there the unit is only enabled.

    A unit whose own conditions do not hold here (``Condition…=`` of systemd.unit(5)) is enabled and not started.
    """
    brought = package is not None and package in mailhost_forecast.brought(__context__)
    forecast = mailhost_forecast.applied(__context__, "changed", {})
    unit = mailhost_service.known(name, __salt__["mailhost_service.look"](name), brought=brought, forecast=forecast)
    if done and unit["active"] != "active" and __salt__["mailhost_file.look"](done, text=False)["kind"]:
        unit["startable"] = False
    changes = mailhost_service.plan_running(
        unit,
        brought=brought,
        enabled=enabled,
        restart=_newer(restart_after, unit["started"], forecast),
        reload=_newer(reload_after, unit["changed"], forecast),
    )
    if __opts__["test"] and not set(changes) <= {"enabled", "reloaded"}:
        mailhost_forecast.note(__context__, "started", name, True)

    def act():
        verbs = ["daemon-reload"]
        if enabled and unit["enabled"] == "masked":
            verbs.append("unmask")
        if enabled and unit["enabled"] not in ("enabled", *mailhost_service.UNSWITCHABLE):
            verbs.append("enable")
        if unit["active"] != "active":
            verbs.append("start")
        elif "restarted" in changes or _newer(restart_after, unit["started"], ()):
            verbs.append("restart")
        elif "reloaded" in changes or _newer(reload_after, unit["changed"], ()):
            verbs.append("reload")
        __salt__["mailhost_service.act"](name, *verbs)
        now = __salt__["mailhost_service.look"](name)
        if now["startable"] and now["active"] != "active":
            raise CommandExecutionError(f"{name}: is {now['active']} after it was started")

    already = "runs" if unit["startable"] else "does not run here: its own conditions do not hold"
    return outcome((__opts__, __context__), name, changes, act, f"{already}, {unit['enabled']}")


@explained
def masked(name):
    """Let a unit never run: not at boot, not for another unit's sake, not by hand.

    name
        The unit's whole name; it need not exist.
    """
    unit = __salt__["mailhost_service.look"](name)
    changes = mailhost_service.plan_masked(unit)
    verbs = [verb for what, verb in (("enabled", "mask"), ("active", "stop")) if what in changes]
    return outcome(
        (__opts__, __context__), name, changes, lambda: __salt__["mailhost_service.act"](name, *verbs), "is masked"
    )


def _newer(paths, since, forecast):
    """Return the paths that changed since a moment, or would by this dry run; in one that is a directory, its names."""
    expected = {path for path in paths if any(name == path or name.startswith(f"{path}/") for name in forecast)}
    changed = {**dict.fromkeys(expected, 0.0), **__salt__["mailhost_service.changed"](list(paths))}
    return mailhost_service.newer(changed, since, expected)
