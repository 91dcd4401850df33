"""Packages, exact in a dry run: dependencies that come along are named too."""

import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["installed"]


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
        forecast = sorted(mailhost_forecast.applied(__context__, "packages", {}))
        planned = __salt__["mailhost_pkg.simulate"]([*forecast, *missing])
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
