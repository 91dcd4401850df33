"""Accounts: what differs between the one that is wanted and the one that is there. Pure."""

from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError


def plan_present(wanted: Mapping[str, Any], users: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that make an account what is wanted, by attribute: ``{"uid": {"old": 1001, "new": 1000}}``.

    wanted
        name, uid (also its own group's id), shell, home, groups, password_hash (None: locked).
    users, groups
        What there is, by name, as ``mailhost_accounts.read`` gives it.

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
    current = users.get(name)
    if current is None:
        return {"user": {"old": None, "new": f"uid {uid}, {wanted['shell']}, in {', '.join(wanted['groups'])}"}}
    changes: dict[str, Any] = {}
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


def ageing(shadow: str) -> dict[str, str]:
    """Return the accounts without a password whose login ends one day all the same, and when, as chage(1) says it.

    Of shadow(5)'s fields: the fifth is the longest age of a password in days, the seventh how long an aged one still
    works. sshd refuses a key's login on both ("Password change required"), also where the password is locked.
    """
    found = {}
    for line in shadow.splitlines():
        fields = line.split(":")
        if len(fields) < 8 or fields[1][:1] not in ("!", "*"):
            continue
        longest, inactive = fields[4], fields[6]
        if (longest and 0 <= int(longest) < 10000) or (inactive and int(inactive) >= 0):
            found[fields[0]] = f"after {longest or 'no number of'} days, inactive {inactive or 'never'}"
    return found
