"""Files: what differs between the one that is wanted and the one that is there. Pure."""

import difflib
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError


def plan(path: str, wanted: Mapping[str, str], current: Mapping[str, Any], secret: bool) -> dict[str, Any]:
    """Return the changes that make a file what is wanted, by attribute.

    wanted
        text, user, group and mode (four octal digits).
    current
        What ``mailhost_file.look`` found.
    secret
        Whether the text must not be shown.

    Raises CommandExecutionError when something other than a file is in the way: it may be somebody's data.
    """
    if current["kind"] not in (None, "file"):
        raise CommandExecutionError(f"{path}: is a {current['kind']}, not a file; move it away and apply again")
    changes: dict[str, Any] = {}
    old = current.get("text")
    if old != wanted["text"]:
        changes["content" if old is not None else "file"] = "(not shown)" if secret else diff(old or "", wanted["text"])
    if old is None:
        return changes
    for attribute in ("user", "group", "mode"):
        if current[attribute] != wanted[attribute]:
            changes[attribute] = {"old": current[attribute], "new": wanted[attribute]}
    return changes


def diff(old: str, new: str) -> str:
    """Return the lines that differ, with - and + before them."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
