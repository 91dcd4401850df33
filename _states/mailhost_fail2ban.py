"""The running fail2ban: a file that is right and a service that is up do not say which jails are on."""

from salt.exceptions import CommandExecutionError

import mailhost_fail2ban
import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["jails"]


@explained
def jails(name, settings):
    """Let the running fail2ban have these jails with these settings, and the firewall drop whom they ban.

    A jail that was stopped or changed at run time is put right by a restart; bans outlast it.

    settings
        What ``mailhost_fail2ban.jails`` returned.
    """
    if mailhost_fail2ban.UNIT in mailhost_forecast.applied(__context__, "changed", {}):
        # This dry run would start or restart it, and the files that it would then read are looked at before.
        changes = {}
    else:
        changes = mailhost_fail2ban.plan(settings, __salt__["mailhost_fail2ban.look"](settings))

    def act():
        __salt__["mailhost_service.act"](mailhost_fail2ban.UNIT, "restart")
        if left := mailhost_fail2ban.plan(settings, __salt__["mailhost_fail2ban.look"](settings)):
            wrong = "; ".join(mailhost_fail2ban.sentences(left))
            raise CommandExecutionError(f"{wrong}: is there another file in {mailhost_fail2ban.DIRECTORY}/jail.d?")

    return outcome((__opts__, __context__), name, changes, act, f"{', '.join(settings)} active")
