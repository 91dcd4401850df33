"""Look at units of systemd and act on them."""

import os

from salt.exceptions import CommandExecutionError

import mailhost_service

__all__ = ["act", "changed", "look"]


def look(name):
    """Return a unit: load, active, enabled, started, changed, and whether its own conditions let it start here.

    name
        The unit's whole name, e.g. ``fail2ban.service``.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_service.look fail2ban.service
    """
    properties = ",".join(mailhost_service.PROPERTIES)
    shown = __salt__["mailhost_run.program"](["systemctl", "show", "--timestamp=us+utc", "-p", properties, "--", name])
    unit = mailhost_service.parse(shown)
    # A masked unit's conditions cannot be asked for: they are taken to hold.
    startable = (
        unit["active"] == "active" or unit["load"] == "masked" or (unit["load"] == "loaded" and _startable(name))
    )
    return {**unit, "startable": startable}


def changed(paths):
    """Return when files last changed, by path, in seconds since 1970; those that are not there are left out.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_service.changed '["/etc/fail2ban/jail.local"]'
    """
    return {path: os.stat(path).st_mtime for path in paths if os.path.exists(path)}


def act(name, *verbs):
    """Do something with a unit: systemctl's own verbs, in this order; ``daemon-reload`` goes without the unit.

    Raises CommandExecutionError with systemctl's words and the last lines of the unit's journal.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_service.act fail2ban.service enable restart
    """
    run = __salt__["mailhost_run.program"]
    for verb in verbs:
        try:
            run(["systemctl", verb] if verb == "daemon-reload" else ["systemctl", verb, "--", name])
        except CommandExecutionError as error:
            lines = run(
                ["journalctl", "-q", "-u", name, "-n", "5", "-o", "cat", "--no-pager"], codes=(0, 1)
            ).splitlines()
            raise CommandExecutionError(" / ".join([str(error).split(" / ")[0], *lines])) from None


def _startable(name):
    """Whether systemd would start a unit, or pass it over: AppArmor's without AppArmor, a clock's in a container."""
    try:
        __salt__["mailhost_run.program"](["systemd-analyze", "condition", f"--unit={name}"])
    except CommandExecutionError:
        return False
    return True
