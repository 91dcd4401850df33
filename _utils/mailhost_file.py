"""Files: what differs between the one that is wanted and the one that is there. Pure."""

import difflib
import re
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


def access(current: Mapping[str, Any]) -> str:
    """Return who owns what is at a path and with which mode, as ``root:root 0644``."""
    return f"{current['user']}:{current['group']} {current['mode']}"


def with_settings(text: str, settings: Mapping[str, str], separator: str) -> str:
    """Return a text of lines ``key<separator>value`` with these settings: where the key stands, else at the end.

    A key that is commented out is put in place of the comment; of a key that stands twice the later line goes.

    separator
        What stands between key and value; when blank, any white space counts as it.
    """
    lines = text.splitlines()
    between = r"\s+" if not separator.strip() else rf"\s*{re.escape(separator.strip())}\s*"
    for key, value in settings.items():
        words = r"\s+".join(map(re.escape, key.split()))
        wanted = f"{key}{separator}{value}" if value else key
        active = [at for at, line in enumerate(lines) if re.match(rf"\s*{words}({between}|$)", line)]
        comments = [at for at, line in enumerate(lines) if re.match(rf"\s*#\s*{words}({between}\S+)?\s*$", line)]
        places = active or comments[:1]
        if not places:
            lines.append(wanted)
            continue
        found = re.sub(rf"^\s*{words}({between}|$)", "", lines[places[0]]).strip()
        if not active or found != value:
            lines[places[0]] = wanted
        for extra in reversed(places[1:]):
            del lines[extra]
    return "\n".join(lines) + "\n"
