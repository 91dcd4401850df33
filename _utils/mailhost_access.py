"""Keys and logins: what differs, and what the journal proves. Pure."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any


def fingerprint(line: str) -> str:
    """Return a public key's fingerprint as sshd logs it, ``SHA256:…`` (ssh-keygen(1), -l)."""
    blob = base64.b64decode(_blob(line))
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _blob(line: str) -> str:
    """Return the base64 word of a line of authorized_keys(5), options before it or not."""
    match = re.search(r"(?:^|\s)(?:sk-)?(?:ssh|ecdsa)-[\w@.-]+\s+([A-Za-z0-9+/=]+)", line)
    return match.group(1) if match else ""


def authorized_keys(keys: Iterable[str]) -> str:
    """Return the text of authorized_keys for these keys."""
    return "".join(f"{key}\n" for key in keys)


def plan_keys(wanted: list[str], text: str | None) -> dict[str, Any]:
    """Return the changes of authorized_keys: which keys come, which go, and whether a line is otherwise not ours.

    Keys are named by fingerprint and comment: a stray one must be recognisable to whoever put it there.
    """
    lines = [line for line in (text or "").splitlines() if line.strip() and not line.startswith("#")]
    added = [line for line in wanted if line not in lines]
    strays = [line for line in lines if line not in wanted]
    changes = {}
    if added:
        changes["keys added"] = "\n".join(map(_named, added))
    if strays:
        changes["keys removed"] = "\n".join(map(_named, strays))
    if not changes and text != authorized_keys(wanted):
        changes["order"] = "as declared"
    return changes


def _named(line: str) -> str:
    """Return a key's fingerprint and the last word of its line, or the line's beginning where it holds no key."""
    if not _blob(line):
        return f"no key: {line[:40]}"
    try:
        return f"{fingerprint(line)} {line.split()[-1]}"
    except ValueError:
        return f"damaged key: {line[:40]}"


def logins(journal: str, name: str, fingerprints: Iterable[str]) -> list[dict[str, str]]:
    """Return the logins by one of these keys that were followed by a sudo that worked, oldest first.

    journal
        Lines of ``journalctl -o json``, of sshd and sudo.
    """
    wanted = set(fingerprints)
    accepted: list[dict[str, str]] = []
    proven: list[dict[str, str]] = []
    for line in journal.splitlines():
        entry = json.loads(line)
        message = entry.get("MESSAGE")
        if not isinstance(message, str):
            continue
        login = re.match(r"Accepted publickey for (\S+) from (\S+) port \d+ ssh2: \S+ (SHA256:\S+)", message)
        if login and login.group(1) == name and login.group(3) in wanted:
            accepted.append({"from": login.group(2), "key": login.group(3), "time": entry["__REALTIME_TIMESTAMP"]})
        # sudo(8) logs a command it ran as "user : TTY=… ; …", one it refused with the reason in the first place.
        if accepted and re.match(rf"\s*{re.escape(name)} : [A-Z]+=", message):
            proven.append(accepted[-1])
    return proven
