"""Accounts: what differs between the one that is wanted and the one that is there. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

# What is noted while files follow an account's new id, by the account's name: a walk that is cut short is gone on with.
MOVES = "/var/lib/mailhost/uid-move.json"

# File systems whose files keep an owner over a reboot, or are somebody's scratch space.
OWNED = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "overlay", "tmpfs"}

# Ids that an account has given up and that its files may still have, by what they are the id of.
Moves = Mapping[str, list[int]]


def plan_present(
    wanted: Mapping[str, Any], users: Mapping[str, Any], groups: Mapping[str, Any], moves: Moves
) -> dict[str, Any]:
    """Return the changes that make an account what is wanted, by attribute: ``{"uid": {"old": 1001, "new": 1000}}``.

    wanted
        name, uid (also its own group's id), shell, home, groups, password_hash (None: locked).
    users, groups
        What there is, by name, as ``mailhost_accounts.read`` gives it.
    moves
        Old ids of the account, ``user`` and ``group``, whose files have not all followed it.

    Raises CommandExecutionError when the id belongs to somebody else, or a group is missing.
    """
    name, uid = wanted["name"], wanted["uid"]
    for other, user in users.items():
        if user["uid"] == uid and other != name:
            raise CommandExecutionError(
                f"uid {uid}, wanted for {name}, belongs to {other}: remove or move that account"
            )
    for other, group in groups.items():
        if group["gid"] == uid and other != name:
            raise CommandExecutionError(f"gid {uid}, wanted for {name}, belongs to group {other}: remove or move it")
    for group in wanted["groups"]:
        if group not in groups:
            raise CommandExecutionError(f"group {group}, wanted for {name}, does not exist")
    changes = _plan_files(wanted, users, groups, moves)
    current = users.get(name)
    if current is None:
        return {
            "user": {"old": None, "new": f"uid {uid}, {wanted['shell']}, in {', '.join(wanted['groups'])}"},
            **changes,
        }
    own_group = groups.get(name, {}).get("gid")
    pairs = {
        "group": (own_group, uid),
        "uid": (current["uid"], uid),
        "gid": (current["gid"], uid),
        "shell": (current["shell"], wanted["shell"]),
        "home": (current["home"] if current["home_exists"] else None, wanted["home"]),
    }
    for attribute, (old, new) in pairs.items():
        if old != new:
            changes[attribute] = {"old": old, "new": new}
    # A home of the id that is given up follows with all its files.
    if current["home_exists"] and current["home_uid"] not in (uid, current["uid"], *moves.get("user", ())):
        changes["owner"] = {"old": f"uid {current['home_uid']}", "new": f"uid {uid}"}
    missing = [group for group in wanted["groups"] if name not in groups[group]["members"]]
    if missing:
        changes["groups"] = {"old": None, "new": ", ".join(missing)}
    if changes.get("group") and changes.get("gid") and own_group == current["gid"]:
        del changes["gid"]  # the group moves with its members
    if wanted["password_hash"] is None:
        if not current["locked"]:
            changes["password"] = {"old": "set", "new": "locked"}
    elif current["password_hash"] != wanted["password_hash"]:
        changes["password"] = {"old": "locked" if current["locked"] else "another", "new": "as declared"}
    return changes


def _plan_files(
    wanted: Mapping[str, Any], users: Mapping[str, Any], groups: Mapping[str, Any], moves: Moves
) -> dict[str, Any]:
    """Return the change that gives an account the files that did not follow it; refused where they may be another's."""
    holders = {
        "user": {user["uid"]: name for name, user in users.items()},
        "group": {group["gid"]: name for name, group in groups.items()},
    }
    for kind, ids in moves.items():
        for number in ids:
            if holders[kind].get(number, wanted["name"]) != wanted["name"]:
                raise CommandExecutionError(
                    f"{kind} id {number}, whose files were to go to {wanted['name']}, belongs to"
                    f" {holders[kind][number]} now: give {wanted['name']} its files, and remove {MOVES}"
                )
    return {"files": {"old": said(moves), "new": f"id {wanted['uid']}"}} if any(moves.values()) else {}


def said(moves: Moves) -> str:
    """Return ids that files may still have in words."""
    return ", ".join(f"{kind} id {number}" for kind, ids in moves.items() for number in ids)


def with_moves(moves: Moves, changes: Mapping[str, Any], uid: int) -> dict[str, list[int]]:
    """Return the ids whose files are to follow an account to its new one: those of before, and those it has now."""
    found: dict[str, list[int]] = {}
    for kind, attribute in (("user", "uid"), ("group", "group")):
        old = changes.get(attribute, {}).get("old")
        found[kind] = sorted({*moves.get(kind, ()), *([old] if old is not None else [])} - {uid})
    return found


def owned_mounts(mountinfo: str) -> list[str]:
    """Return where file systems are mounted that keep owners, from /proc/self/mountinfo, whose blanks are octal."""
    found = []
    for line in mountinfo.splitlines():
        words = line.split(" ")
        path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4])
        if words[words.index("-") + 1] in OWNED and not path.startswith(("/proc", "/sys")):
            found.append(path)
    return found


def ageing(shadow: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Return the accounts without a password whose login ends one day all the same, and when, as chage(1) says it.

    Of shadow(5)'s fields: the fifth is the longest age of a password in days, the seventh how long an aged one still
    works. sshd refuses a key's login on both ("Password change required"), also where the password is locked.

    passwords
        What shadow's second field will be by then, by account, where it is not as it is now.
    """
    found = {}
    for line in shadow.splitlines():
        fields = line.split(":")
        if len(fields) < 8 or passwords.get(fields[0], fields[1])[:1] not in ("!", "*"):
            continue
        longest, inactive = fields[4], fields[6]
        if (longest and 0 <= int(longest) < 10000) or (inactive and int(inactive) >= 0):
            found[fields[0]] = f"after {longest or 'no number of'} days, inactive {inactive or 'never'}"
    return found
