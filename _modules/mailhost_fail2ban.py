"""Look at fail2ban, and let somebody in again."""

import ast
import ipaddress
import shutil
import time

from salt.exceptions import CommandExecutionError

import mailhost_fail2ban

__all__ = ["banned", "look", "unban"]

READY_SECONDS = 10


def look(jails):
    """Return which jails run, of those asked for, with their settings; whom they ban; and whom the firewall drops.

    A server that was started just now, and has yet to set up its jails, is waited for.

    jails
        The settings to ask for, by jail: what ``mailhost_fail2ban.jails`` returned.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_fail2ban.look '{"sshd": {"maxretry": 3}}'
    """
    unit = __salt__["mailhost_service.look"](mailhost_fail2ban.UNIT)
    if unit["active"] != "active":
        return {"running": {}, "banned": {}, "dropped": {}}
    while True:
        mine = {jail: addresses for jail, addresses in banned().items() if jail in jails}
        found = {"running": _running(jails), "banned": mine, "dropped": _dropped()}
        settled = not mailhost_fail2ban.plan(jails, found) and not mailhost_fail2ban.not_held(found)
        if settled or time.time() > unit["started"] + READY_SECONDS:
            return found
        time.sleep(0.2)


def banned():
    """Return who is banned, by jail.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_fail2ban.banned
    """
    # 255: no server answers.
    said = __salt__["mailhost_run.program"](["fail2ban-client", "banned"], codes=(0, 255)) or "[]"
    return {jail: addresses for found in ast.literal_eval(said) for jail, addresses in found.items()}


def unban(address):
    """Let an address in again, in every jail, and forget its bans; return the jails it was banned in.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_fail2ban.unban 203.0.113.7
    """
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        raise CommandExecutionError(f"{address!r} is not an IP address") from None
    before = [jail for jail, addresses in banned().items() if address in addresses]
    __salt__["mailhost_run.program"](["fail2ban-client", "unban", address])
    return before


def _running(jails):
    """Return the jails that run, of those asked for, with their settings."""
    questions = mailhost_fail2ban.questions(jails)
    answers = __salt__["mailhost_run.program"](["fail2ban-client", "-i"], stdin=questions)
    return mailhost_fail2ban.parse(answers, jails)


def _dropped():
    """Return the addresses that the firewall drops, by its sets."""
    if not shutil.which("nft"):
        return {}
    argv = ["nft", "-j", "list", "table", mailhost_fail2ban.FAMILY, mailhost_fail2ban.TABLE]
    # 1: there is no such table.
    return mailhost_fail2ban.dropped(__salt__["mailhost_run.program"](argv, codes=(0, 1)))
