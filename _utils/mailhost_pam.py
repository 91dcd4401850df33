"""Profiles of pam-auth-update(8): which of them PAM's common files hold. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

COMMON = {"Auth": "auth", "Account": "account", "Password": "password", "Session": "session"}


def modules(profile: str) -> dict[str, list[set[str]]]:
    """Return what a profile puts into the common files: for each type, for each line, the spellings it may have.

    A module may stand first in its stack or after others, and a profile may spell it differently for the two
    (``Auth-Initial``). How many lines a ``success=end`` jumps over is not part of it.
    """
    blocks: dict[str, list[str]] = {}
    current = ""
    for line in profile.splitlines():
        if header := re.match(r"([\w-]+):\s*(.*)$", line):
            current = header.group(1)
        elif line[:1].isspace() and line.strip():
            blocks.setdefault(current, []).append(_spelling(line))
    found: dict[str, list[set[str]]] = {}
    for name, kind in COMMON.items():
        usual, first = blocks.get(name, []), blocks.get(f"{name}-Initial", blocks.get(name, []))
        if usual or first:
            found[kind] = [{*pair} for pair in zip(usual, first, strict=False)]
    return found


def lines(common: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the module lines of PAM's common files, by type."""
    found: dict[str, set[str]] = {}
    for kind, text in common.items():
        rest = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        found[kind] = {_spelling(words[1]) for words in rest if len(words) == 2 and words[0] == kind}
    return found


def _spelling(line: str) -> str:
    """Return a module's line without its control field, words one blank apart."""
    return " ".join(re.sub(r"^\s*(\[[^\]]*\]|\S+)\s+", "", line).split())


def held(profile: str, there: Mapping[str, set[str]]) -> bool:
    """Whether the common files hold all that a profile puts there."""
    return all(spellings & there.get(kind, set()) for kind, each in modules(profile).items() for spellings in each)


def plan(
    enabled: Iterable[str], disabled: Iterable[str], profiles: Mapping[str, str], common: Mapping[str, str]
) -> dict[str, Any]:
    """Return the change that lets PAM hold some profiles and not others: one, for they are put in place together.

    profiles
        The profiles there are, by name.
    common
        PAM's common files, by type.
    """
    enabled, disabled = list(enabled), list(disabled)
    there = lines(common)
    missing = [name for name in enabled if name not in profiles or not held(profiles[name], there)]
    kept = {
        (kind, spelling)
        for name in enabled
        for kind, each in modules(profiles.get(name, "")).items()
        for spellings in each
        for spelling in spellings
    }
    extra = [
        name
        for name in disabled
        if any(
            spelling in there.get(kind, set()) and (kind, spelling) not in kept
            for kind, each in modules(profiles.get(name, "")).items()
            for spellings in each
            for spelling in spellings
        )
    ]
    if not missing and not extra:
        return {}
    return {"profiles": {"old": None, "new": "; not ".join(", ".join(names) for names in (enabled, disabled) if names)}}
