"""Packages, exact in a dry run: dependencies that come along are named too."""

from salt.exceptions import CommandExecutionError

import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["finished", "installed", "purged", "security_source"]


@explained
def finished(name):
    """Let nothing be left half-installed by a power cut: apt would refuse to do anything."""
    found = __salt__["mailhost_pkg.unfinished"]()
    changes = {package or "dpkg": {"old": entry["status"], "new": "finished"} for package, entry in found.items()}
    if __opts__["test"]:
        for package, entry in found.items():
            mailhost_forecast.note(__context__, "unfinished", package, True)
            # "" is dpkg's journal. A package of which not even the files are all there is installed again, by the state
            # that wants it.
            if package and entry["status"] != "half-installed":
                mailhost_forecast.note(__context__, "packages", package, entry["version"])
    return outcome(
        (__opts__, __context__), name, changes, __salt__["mailhost_pkg.finish"], "nothing was left half-installed"
    )


@explained
def installed(name, packages):
    """Let packages be installed, in whatever version they are there.

    packages
        Their names. What they depend on comes along and is among the changes; what they recommend does not.
    """
    there = mailhost_forecast.applied(__context__, "packages", __salt__["mailhost_pkg.installed"]())
    missing = [package for package in packages if package not in there]
    changes = {}
    if missing:
        if not __opts__["test"]:
            __salt__["mailhost_pkg.refresh"]()
        # What earlier states of a dry run would install is asked for again, so that apt counts on it, and taken out.
        # In that very version: named alone, one that is there already would be brought to the newest.
        forecast = mailhost_forecast.applied(__context__, "packages", {})
        sources = mailhost_forecast.applied(__context__, "sources", {})
        planned = __salt__["mailhost_pkg.simulate"]([*_pinned(forecast), *missing], sources)
        changes = {package: versions for package, versions in planned.items() if package not in forecast}
    mailhost_forecast.bring(__context__, [package for package, versions in changes.items() if not versions["old"]])
    if __opts__["test"]:
        for package, versions in changes.items():
            mailhost_forecast.note(__context__, "packages", package, versions["new"])
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_pkg.install"](missing),
        f"{', '.join(packages)} installed",
    )


@explained
def purged(name, packages):
    """Let packages be gone, with their configuration.

    packages
        Their names. Refused when a package that is not among them would have to go too: somebody needs it.
    """
    there = [package for package in packages if package in __salt__["mailhost_pkg.installed"]()]
    changes = {}
    if there:
        removal = __salt__["mailhost_pkg.removal"](there)
        if others := sorted(set(removal) - set(packages)):
            raise CommandExecutionError(
                f"{', '.join(there)}: cannot be removed, {', '.join(others)} would go too; remove those yourself, or "
                "switch the control off (hardening.disabled)"
            )
        changes = {package: {"old": version, "new": ""} for package, version in removal.items()}
    return outcome(
        (__opts__, __context__), name, changes, lambda: __salt__["mailhost_pkg.purge"](there), "none is installed"
    )


@explained
def security_source(name):
    """Let apt know Debian's security archive, on the mirror it uses already.

    name
        The file that is written when no source names the archive.
    """
    found = __salt__["mailhost_pkg.security_source"]()
    if not found["known"] and not found["source"]:
        raise CommandExecutionError(
            "apt knows no security archive, and its mirror's path does not tell where one is: add a source"
        )
    changes = {} if found["known"] else {"source": found["source"]}

    def act():
        __salt__["mailhost_file.replace"](name, found["source"])
        __salt__["mailhost_pkg.refresh"](forced=True)

    return outcome((__opts__, __context__), name, changes, act, "apt knows the security archive")


def _pinned(packages):
    """Return packages, ``{name: version}``, as words for apt-get."""
    return [f"{package}={version}" for package, version in sorted(packages.items())]
