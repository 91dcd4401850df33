"""sshd's settings: drop-ins, and what sshd says it makes of them. Pure."""

import re
from collections.abc import Iterable, Mapping


def drop_in(settings: Iterable[Iterable[str]]) -> str:
    """Return the text of a drop-in of sshd_config(5) for these keywords and values."""
    lines = [" ".join(words) for words in settings]
    return "\n".join(["# Managed by Salt: changes made here are lost.", *lines, ""])


def effective(output: str) -> dict[str, list[str]]:
    """Return the settings that ``sshd -T`` printed, by lower-case keyword: a list, since some can stand twice."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def lockout(found: Mapping[str, list[str]], user: str, groups: Iterable[str]) -> str:
    """Return why these settings would keep a user from logging in by key, "" when they would not.

    found
        ``effective()`` of ``sshd -T -C user=…``: what sshd applies to this very user.
    user, groups
        The user's name and groups.
    """
    if found.get("pubkeyauthentication") != ["yes"]:
        return "sshd would take no keys"
    if not any(".ssh/authorized_keys" in value for value in found.get("authorizedkeysfile", [])):
        return "sshd would not read .ssh/authorized_keys"
    if (method := found.get("authenticationmethods", ["any"])[0]) not in ("any", "publickey"):
        return f"sshd would ask for {method} as well"
    for keyword, mine in (("allowusers", {user}), ("allowgroups", set(groups))):
        allowed = {word for value in found.get(keyword, []) for word in value.split()}
        if allowed and not allowed & mine:
            return f"{keyword} names {', '.join(sorted(allowed))} only"
    for keyword, mine in (("denyusers", {user}), ("denygroups", set(groups))):
        denied = {word for value in found.get(keyword, []) for word in value.split()}
        if denied & mine:
            return f"{keyword} names {', '.join(sorted(denied & mine))}"
    if user == "root" and found.get("permitrootlogin") == ["no"]:
        return "root may not log in"
    return ""


def differing(found: Mapping[str, list[str]], settings: Iterable[tuple[str, str]]) -> list[str]:
    """Return the keywords whose effective value is not the declared one: something read earlier has won."""
    return [
        f"{keyword} is {' '.join(found.get(keyword.lower(), ['not set']))}, not {value}"
        for keyword, value in settings
        if value.lower() not in (line.lower() for line in found.get(keyword.lower(), []))
    ]


def without(text: str, keyword: str) -> str:
    """Return sshd_config text with every line of a keyword made a comment, for those that add up over all files."""
    return re.sub(rf"^(\s*)({keyword}\s)", r"\1#\2", text, flags=re.MULTILINE | re.IGNORECASE)


def sockets(found: Mapping[str, list[str]]) -> set[tuple[str, int]]:
    """Return the addresses and ports that sshd listens on by its effective settings."""
    pairs = (value.rpartition(":") for value in found.get("listenaddress", []))
    return {(address.strip("[]"), int(port)) for address, _, port in pairs}
