"""fail2ban: the jails that are wanted, what a running fail2ban says of its own, and what differs. Pure."""

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

DIRECTORY = "/etc/fail2ban"
UNIT = "fail2ban.service"
FAMILY, TABLE = "inet", "f2b-table"
LOOPBACK = ("127.0.0.0/8", "::1")
# Debian's port for sshd: it answers there until it has moved.
FIRST_PORT = 22
# nft(8), priority dstnat: there Docker redirects what comes for its published ports, and no chain of input sees that.
DNAT_PRIORITY = -100

_PROMPT = "fail2ban> "
_QUESTIONS = {"port": "action nftables port"}

Jails = Mapping[str, Mapping[str, Any]]


def jails(pillar: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that each jail must have, times in seconds.

    The VPN and loopback are ignored whatever the pillar says: who is banned by mistake must find a way in.
    """
    declared = pillar["fail2ban"]
    vpn = [pillar["vpn"][key] for key in ("address", "address6") if pillar["vpn"][key]]
    networks = [str(ipaddress.ip_interface(address).network) for address in vpn]
    common = {"ignoreip": sorted({*LOOPBACK, *networks, *declared["ignore"]})}
    ports = dict.fromkeys((pillar["ssh"]["port"], FIRST_PORT))
    return {
        "sshd": {**_limits(declared), **common, "port": ",".join(map(str, ports))},
        "recidive": {**_limits(declared["recidive"]), **common},
    }


def _limits(declared: Mapping[str, int]) -> dict[str, int]:
    return {
        "maxretry": declared["maxretry"],
        "findtime": 60 * declared["findtime_minutes"],
        "bantime": 60 * declared["bantime_minutes"],
    }


def questions(wanted: Jails) -> str:
    """Return the commands that ask fail2ban-client(1), interactive, for its jails and their settings."""
    asked = [f"get {jail} {_QUESTIONS.get(setting, setting)}" for jail in wanted for setting in wanted[jail]]
    return "\n".join(["status", *asked, "exit", ""])


def parse(answers: str, wanted: Jails) -> dict[str, dict[str, Any]]:
    """Return the jails that run, with their settings in the form of ``jails()``.

    answers
        What fail2ban-client printed to ``questions(wanted)``; nothing but prompts when no server answered.
    """
    status, *said = [answer.strip() for answer in answers.split(_PROMPT)[1:]] or [""]
    active = re.findall(r"[\w-]+", status.partition("Jail list:")[2])
    values = iter(said)
    asked = {jail: {setting: next(values, "") for setting in wanted[jail]} for jail in wanted}
    return {
        jail: {setting: _value(setting, words) for setting, words in asked[jail].items()}
        for jail in wanted
        if jail in active
    }


def _value(setting: str, words: str) -> Any:
    """Return an answer as a number or a sorted list where it is one, else as it was said."""
    if setting == "ignoreip":
        return sorted(re.findall(r"^[|`]- (\S+)$", words, re.MULTILINE))
    return int(words) if words.isdecimal() else words


def plan(wanted: Jails, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that let a running fail2ban have the wanted jails, by jail, and that let its bans hold.

    found
        What ``mailhost_fail2ban.look`` returned: running, banned and dropped.
    """
    changes: dict[str, Any] = {}
    for jail, settings in wanted.items():
        there = found["running"].get(jail)
        if there is None:
            changes[jail] = {"old": None, "new": "active"}
        elif differing := [name for name, value in settings.items() if there[name] != value]:
            old, new = (_shown({name: values[name] for name in differing}) for values in (there, settings))
            changes[jail] = {"old": old, "new": new}
    missing = sorted(
        {name for jail in wanted if jail in found["running"] for name in sets(jail)} - set(found["dropped"])
    )
    if missing:
        changes["firewall"] = {"old": None, "new": f"drops {', '.join(missing)}"}
    return changes


def sentences(changes: Mapping[str, Any]) -> list[str]:
    """Return a plan as a list of what is not as it must be."""
    return [f"{what}: {change['old'] or 'missing'}, not {change['new']}" for what, change in changes.items()]


def _shown(settings: Mapping[str, Any]) -> str:
    lists = {name: " ".join(value) if isinstance(value, list) else value for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in lists.items())


def sets(jail: str) -> tuple[str, str]:
    """Return the names of the firewall's sets that hold a jail's banned addresses, IPv4 and IPv6."""
    return f"addr-set-{jail}", f"addr6-set-{jail}"


def dropped(ruleset: str) -> dict[str, list[str]]:
    """Return the sets whose addresses are dropped before Docker's redirection can take them elsewhere, with what is in
    them.

    ruleset
        What ``nft -j list table`` printed; "" when there is no table.
    """
    objects = json.loads(ruleset)["nftables"] if ruleset else []
    early = {
        chain["name"]
        for chain in _of(objects, "chain")
        if chain.get("hook") == "prerouting" and chain["prio"] < DNAT_PRIORITY
    }
    names = {
        expression["match"]["right"].removeprefix("@")
        for rule in _of(objects, "rule")
        if rule["chain"] in early and {"drop": None} in rule["expr"]
        for expression in rule["expr"]
        if str(expression.get("match", {}).get("right", "")).startswith("@")
    }
    return {found["name"]: found.get("elem", []) for found in _of(objects, "set") if found["name"] in names}


def not_held(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each address that a jail has banned and the firewall lets in.

    found
        What ``mailhost_fail2ban.look`` returned.
    """
    held = {
        jail: {address for name in sets(jail) for address in found["dropped"].get(name, [])} for jail in found["banned"]
    }
    return [
        f"{address} is banned by {jail} and not dropped"
        for jail, addresses in found["banned"].items()
        for address in addresses
        if address not in held[jail]
    ]


def evidence(wanted: Jails, banned: Mapping[str, list[str]]) -> str:
    """Return in one line what holds: each jail's limits, who is never banned, and how many are now."""
    limits = [
        f"{jail} {found['maxretry']} in {found['findtime'] // 60} min = {found['bantime'] // 60} min"
        for jail, found in wanted.items()
    ]
    never = ", ".join(wanted["sshd"]["ignoreip"])
    now = len({address for addresses in banned.values() for address in addresses})
    return f"{', '.join(limits)}; dropped before Docker's redirection, IPv4 and IPv6; never {never}; {now} banned now"


def _of(objects: Iterable[Mapping[str, Any]], kind: str) -> list[Any]:
    return [found[kind] for found in objects if kind in found]
