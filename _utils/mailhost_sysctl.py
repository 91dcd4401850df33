"""Kernel settings: what differs between the ones that are wanted and the ones that are there. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import mailhost_file

HEAD = "# Managed by Salt: changes made here are lost.\n"


def text(settings: Mapping[str, str]) -> str:
    """Return a file of sysctl.d(5) that holds these settings, "" for none."""
    return HEAD + "".join(f"{name} = {value}\n" for name, value in settings.items()) if settings else ""


def settings(texts: Iterable[str]) -> dict[str, str]:
    """Return what files of sysctl.d(5) set, the later over the earlier."""
    found = {}
    for text in texts:
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.lstrip().startswith(("#", ";")):
                # A minus sign only says that a failure does not matter; slashes may stand for the dots.
                found[name.strip().lstrip("-").replace("/", ".")] = " ".join(value.split())
    return found


def known(wanted: Mapping[str, Mapping[str, str]], live: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what is wanted, by file, without the keys that cannot be set here: ``sysctl --system`` fails on them."""
    return {
        path: {name: value for name, value in held.items() if not reason(live[name])} for path, held in wanted.items()
    }


def foreseen(live: Mapping[str, Mapping[str, Any]], forecast: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return live settings as they would be after what a dry run has foreseen. Params: forecast, values by key."""
    return {
        key: {name: {**entry, "value": forecast.get(name, entry["value"])} for name, entry in entries.items()}
        for key, entries in live.items()
    }


def with_interfaces(
    live: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Mapping[str, Any]], names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return live settings as they would be with more network interfaces: a new one has what ``default`` has.

    Params: defaults, what ``mailhost_sysctl.read`` found of the keys with ``default`` for their ``*``; names, of the
    interfaces.
    """
    found = {key: dict(entries) for key, entries in live.items()}
    for key in found:
        for entry in defaults.get(key.replace("*", "default"), {}).values() if "*" in key else ():
            for name in names:
                found[key].setdefault(key.replace("*", name), entry)
    return found


def reason(entries: Mapping[str, Any]) -> str:
    """Return why a key cannot be set here, "" when it can.

    entries
        What ``mailhost_sysctl.read`` found of the key.
    """
    if not entries:
        return "this kernel does not have it"
    return "" if all(entry["writable"] for entry in entries.values()) else "this kernel is not this host's to set"


def plan(
    wanted: Mapping[str, Mapping[str, str]], live: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str | None]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the changes, by file and by key, and the keys that cannot be set here, each with the reason.

    wanted
        Settings by file and key.
    live
        For each key what ``mailhost_sysctl.read`` found: value and whether it can be written, by path.
    texts
        The files as they are, None for those that are not there.
    """
    changes: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for path, held in known(wanted, live).items():
        if text(held) != (texts[path] or ""):
            changes[path] = mailhost_file.diff(texts[path] or "", text(held))
    for declared in wanted.values():
        for name, value in declared.items():
            if why := reason(live[name]):
                refused[name] = why
                continue
            for key, entry in live[name].items():
                if entry["value"] != value:
                    changes[key] = {"old": entry["value"], "new": value}
    return changes, refused
