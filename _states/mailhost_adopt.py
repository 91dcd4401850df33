"""A host that is there already becomes one of the roster. On the workstation only."""

from salt.exceptions import CommandExecutionError

import mailhost_adopt
import mailhost_roster
from mailhost_result import explained, outcome

__all__ = ["adopted"]


@explained
def adopted(name, host, address, fingerprint, pillar):
    """Let the roster know a host by its address and its host key; nothing is written on the host.

    host
        Its name in the roster.
    address
        Its addresses, with commas between them.
    fingerprint
        Of its host key, from the provider's console; "" when the roster knows the key already.
    pillar
        The host's pillar, to say what the tree will do to it.

    Refused when nobody has compared the host key, when the roster means another host by that name, when root cannot be
    reached by key, and for hosts that the tree cannot be applied to.
    """
    by_hand, made = (
        mailhost_roster.written(__opts__["mailhost_roster"], host),
        mailhost_roster.made(__opts__["mailhost_roster"], host),
    )
    try:
        addresses = mailhost_adopt.addresses(address)
        ways = __salt__["mailhost_adopt.scan"](addresses, _ports(by_hand, pillar))
        if missing := [one for one in addresses if one not in {way["address"] for way in ways}]:
            raise mailhost_adopt.Unusable(f"{', '.join(missing)}: no SSH server answers there")
        known = by_hand.get("host_key") or made.get("host_key")
        keys = {mailhost_adopt.pinned(host, way["address"], way["keys"], known, fingerprint) for way in ways}
    except mailhost_adopt.Unusable as error:
        raise CommandExecutionError(str(error)) from None
    if len(keys) > 1:
        raise CommandExecutionError(f"{address}: are not one host: they show different keys")
    key = keys.pop()
    entry = mailhost_adopt.entry(addresses, pillar["environment"], key)
    if mailhost_adopt.another(made, entry):
        path = f"{__opts__['mailhost_roster']}.d"
        raise CommandExecutionError(
            f"{path}: {host} is {', '.join(made['host'])} of {made['environment']} there: give another NAME=, or "
            f"remove {path}/{host}"
        )
    for what in sorted(set(by_hand) & set(entry)):
        mine = [str(one) for one in by_hand[what]] if isinstance(by_hand[what], list) else by_hand[what]
        if mine not in (entry[what], entry[what][0]):
            raise CommandExecutionError(
                f"{__opts__['mailhost_roster']}: {host}.{what} is {by_hand[what]}: take the line out, or leave it so"
            )
    users = [by_hand["user"]] if by_hand.get("user") else ["root", pillar["access"]["admin"]["name"]]
    found = __salt__["mailhost_adopt.facts"](host, pillar["environment"], ways, key, users, by_hand.get("priv"))
    report = mailhost_adopt.report(pillar, found)
    if mailhost_adopt.refusals(pillar, found):
        raise CommandExecutionError(report)
    changes = {}
    if made != entry:
        old = ", ".join(made.get("host", [])) or None
        changes["roster"] = {"old": old, "new": f"{', '.join(addresses)}, {mailhost_adopt.fingerprint(key)}"}
    result = outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: mailhost_roster.keep(__opts__["mailhost_roster"], host, entry),
        "is in the roster",
    )
    return {**result, "comment": f"{report}\nWhat exactly would change: salt-ssh {host} state.apply test=True"}


def _ports(by_hand, pillar):
    """Return where sshd may be: where people say, or first where a fresh host has it."""
    return [by_hand["port"]] if by_hand.get("port") else [22, pillar["ssh"]["port"]]
