"""How PAM asks for passwords and takes new ones."""

from salt.exceptions import CommandExecutionError

import mailhost_forecast
import mailhost_pam
from mailhost_result import explained, outcome

__all__ = ["profiles"]


@explained
def profiles(name, enabled, disabled=()):
    """Let PAM's common files hold some profiles of pam-auth-update(8), and not others.

    enabled, disabled
        Names of files in /usr/share/pam-configs.
    """
    found = __salt__["mailhost_pam.look"]()
    forecast = mailhost_forecast.applied(__context__, "changed", {})
    expected = [profile for profile in enabled if f"/usr/share/pam-configs/{profile}" in forecast]
    there = {profile: text for profile, text in found["profiles"].items() if profile not in expected}
    changes = mailhost_pam.plan(enabled, disabled, there, found["common"])

    def act():
        __salt__["mailhost_pam.put"](list(enabled), list(disabled))
        after = __salt__["mailhost_pam.look"]()
        if mailhost_pam.plan(enabled, disabled, after["profiles"], after["common"]):
            raise CommandExecutionError("pam-auth-update was run, but PAM's common files do not hold the profiles")

    return outcome((__opts__, __context__), name, changes, act, f"holds {', '.join(enabled)}")
