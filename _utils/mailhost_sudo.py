"""sudoers text: rules that ask for no password. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MAIN = "/etc/sudoers"
DIRECTORY = "/etc/sudoers.d/"

# What this tree puts into sudoers.d.
OURS = ("80-hardening", "90-nopasswd-sudo")

_TAG = re.compile(r"\bNOPASSWD\s*:\s*")
_INCLUDE = re.compile(r'\s*[@#]includedir\s+"?(/etc/)?sudoers\.d/?"?(\s|$)')
# "#include" and "#includedir" are the old spelling of @include, "#1000" is a user's id: no comments (sudoers(5)).
_ACTS = re.compile(r"\s*(#include|#\d|[^#\s])")


def asking(text: str) -> str:
    """Return sudoers text with the tag NOPASSWD taken out of its rules; comments stay as they are."""
    return "".join(line if line.startswith("#") else _TAG.sub("", line) for line in text.splitlines(keepends=True))


def directory_last(text: str) -> str:
    """Return the main file's text with the include of sudoers.d at its end, where it stands in Debian's own.

    sudo's last match wins: a rule after the include takes away what sudoers.d gives, a sudo without a password too. A
    text that does not have the line stays as it is.
    """
    lines = text.splitlines(keepends=True)
    includes = [line for line in lines if _INCLUDE.match(line)]
    if not includes or _INCLUDE.match([line for line in lines if _ACTS.match(line)][-1]):
        return text
    rest = "".join(line for line in lines if line not in includes)
    return rest.rstrip("\n") + "\n" + includes[-1]


def strays(paths: Iterable[str], keep: Iterable[str]) -> list[str]:
    """Return the names of sudoers.d that nobody declared. sudo skips names with a dot or a final ~, but people do not.

    README is package sudo's own.
    """
    names = {path.removeprefix(DIRECTORY) for path in paths if path.startswith(DIRECTORY)}
    return sorted(names - {*keep, "README"})


def without_user(files: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the sudoers files that have rules of one user, without them: "" where no other rule is left."""
    cut = {path: _cut(text, name) for path, text in files.items()}
    return {path: text for path, text in cut.items() if text != files[path]}


def _cut(text: str, name: str) -> str:
    kept, rule = [], False
    for line in text.splitlines(keepends=True):
        rule = rule or line.split()[:1] == [name]
        if not rule:
            kept.append(line)
        rule = rule and line.rstrip("\n").endswith("\\")  # the rule goes on
    if "".join(kept) == text:
        return text
    return "".join(kept) if any(_ACTS.match(line) for line in kept) else ""


def passwordless(policy: str) -> list[str]:
    """Return who may run something without a password, as sudo itself reads its files.

    policy
        What ``cvtsudoers -f json`` printed; a group is given as %name.
    """
    found: list[str] = []
    for spec in json.loads(policy).get("User_Specs", []):
        if any(_unasked(command) for command in spec.get("Cmnd_Specs", [])):
            found += [_name(user) for user in spec["User_List"]]
    return found


def _unasked(command: dict[str, Any]) -> bool:
    return any(option.get("authenticate") is False for option in command.get("Options", []))


def _name(user: dict[str, str]) -> str:
    return f"%{user['usergroup']}" if "usergroup" in user else next(iter(user.values()))
