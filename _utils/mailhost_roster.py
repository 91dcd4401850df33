"""The roster's files: what people write, and beside it what `make provision` and `make adopt` found out.

Runs on the workstation only. etc/salt/roster is the operator's and never written; etc/salt/roster.d/NAME holds a host's
addresses and host key. What people wrote goes before it, key by key.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from mailhost_endpoint import InvalidRoster


def entries(path: str) -> dict[str, Any]:
    """Return the entry of each host, unparsed.

    path
        The file that people write.

    Raises InvalidRoster when there is neither a roster nor a host that was found, or when one is not YAML of hosts.
    """
    found = {made.name: _read(made) for made in sorted(pathlib.Path(f"{path}.d").glob("[!.]*"))}
    if not os.path.exists(path) and not found:
        raise InvalidRoster("is missing; copy etc/salt/roster.example there and put your host in")
    written = _read(pathlib.Path(path)) if os.path.exists(path) else {}
    whole: dict[str, Any] = {**found, **written}
    for host in set(found) & set(written):
        if isinstance(written[host], Mapping) or written[host] is None:
            whole[host] = {**found[host], **(written[host] or {})}
    return whole


def made(path: str, host: str) -> dict[str, Any]:
    """Return what was found out of a host; nothing when nothing was."""
    file = pathlib.Path(f"{path}.d", host)
    return _read(file) if file.exists() else {}


def written(path: str, host: str) -> dict[str, Any]:
    """Return what people wrote of a host; nothing when nothing."""
    file = pathlib.Path(path)
    return (_read(file).get(host) or {}) if file.exists() else {}


def environment(path: str, host: str) -> str | None:
    """Return the environment of a host, None where the roster does not have it yet."""
    return {**made(path, host), **written(path, host)}.get("environment")


def keep(path: str, host: str, entry: Mapping[str, Any]) -> None:
    """Write what was found out of a host, whole or not at all."""
    file = pathlib.Path(f"{path}.d", host)
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_name(f".{host}")
    unfinished.write_text(
        f"# Written by make provision or make adopt; a key of {host} in {path} goes before it.\n"
        + yaml.safe_dump(dict(entry), sort_keys=False)
    )
    unfinished.replace(file)


def forget(path: str, host: str) -> None:
    """Remove what was found out of a host."""
    pathlib.Path(f"{path}.d", host).unlink(missing_ok=True)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Return a file's mapping."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InvalidRoster(f"is not YAML of hosts: {error}") from None
    if not isinstance(found, Mapping):
        raise InvalidRoster(f"is not YAML of hosts: {path} is {found!r}")
    return dict(found)
