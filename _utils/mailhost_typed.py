"""What is typed after a state function: arguments that there are, and a pillar that can be used. Pure.

Runs on the workstation only. Salt takes any keyword and says nothing of those that it has no use for: TEST=True would
be a run that changes the host.
"""

from collections.abc import Collection, Mapping
from typing import Any

import mailhost_pillar


def refusals(given: Mapping[str, Any], known: Collection[str] | None) -> list[str]:
    """Return what is wrong with the arguments of a state function, a sentence each.

    given
        By name, defaults left out. Salt's own begin with two underscores.
    known
        Those that the function uses; None: any may be of use to it.
    """
    found = []
    for name in given:
        if name != "test" and name.lower() == "test":
            found.append(f"{name}: no such argument; write test=True")
        elif known is not None and name not in known and not name.startswith("__"):
            found.append(f"{name}: no such argument here; there are {', '.join(sorted(known))}")
    if "test" in given and not isinstance(given["test"], bool):
        found.append(f"test: {given['test']!r} is neither True nor False")
    return found


def pillar(files: Mapping[str, Any], override: Any) -> dict[str, Any]:
    """Return the sections that a pillar given on the command line names, whole and parsed.

    Salt lays what was typed over the parsed pillar once more, and states know parsed values only: a rule of the
    firewall without its protocol would fail on the host, half-way.

    files
        The pillar without it, parsed.

    Raises PillarErrors.
    """
    if not isinstance(override, Mapping):
        # Not repeated: a mapping that was mistyped is a text, and may have secrets in it.
        raise mailhost_pillar.PillarErrors(['pillar: is not a mapping such as \'{"ssh": {"port": 2288}}\''])
    own = {name: value for name, value in files.items() if name != "environment"}
    parsed = mailhost_pillar.plain(mailhost_pillar.parse(_merged(own, override)))
    return {name: parsed[name] for name in override}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings laid over each other."""
    both = {
        name: _merged(base[name], over[name])
        for name in over
        if isinstance(over[name], Mapping) and isinstance(base.get(name), Mapping)
    }
    return {**base, **over, **both}
