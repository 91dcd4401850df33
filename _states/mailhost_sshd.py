"""How people log in. Every change is commit-confirmed: it goes back unless a new login by the changed way comes in."""

from salt.exceptions import CommandExecutionError

import mailhost_file
import mailhost_forecast
import mailhost_sshd
from mailhost_result import explained, outcome

__all__ = ["settings"]


@explained
def settings(name, declared, admin):
    """Let a drop-in of sshd hold these settings, and sshd apply them.

    name
        The drop-in's path; its name must sort before others', since the first value wins.
    declared
        Pairs of keyword and value.
    admin
        Who must be able to log in afterwards, and does so to confirm the change.
    """
    text = mailhost_sshd.drop_in(declared)
    wanted = {"text": text, "user": "root", "group": "root", "mode": "0600"}
    changes = mailhost_file.plan(name, wanted, __salt__["mailhost_file.look"](name), secret=False)
    if changes and admin not in mailhost_forecast.applied(__context__, "users", {}):
        __salt__["mailhost_sshd.try_out"](text, admin)

    def act():
        def change():
            __salt__["mailhost_sshd.put"](name, text)
            wrong = mailhost_sshd.differing(
                __salt__["mailhost_sshd.effective"](admin), [tuple(pair) for pair in declared]
            )
            if wrong:
                raise CommandExecutionError(f"{name}: not in effect: {'; '.join(wrong)}")

        way = __salt__["mailhost_sshd.way_in"]()
        login = {"user": admin, "addresses": [way["address"]], "port": way["port"]}
        __salt__["mailhost_guard.commit"](f"sshd: {name}", ["/etc/ssh"], change, login, ["ssh.service"])

    return outcome((__opts__, __context__), name, changes, act, "is in effect")
