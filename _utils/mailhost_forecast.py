"""What earlier states of a dry run would have made of the host, so that later ones plan on that.

Kept in Salt's ``__context__``, which lives as long as one run. A real run writes here only which packages it brought.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

KEY = "mailhost.forecast"
BROUGHT = "mailhost.brought"


def note(context: MutableMapping[str, Any], kind: str, name: str, value: Any) -> None:
    """Note that ``name`` would be ``value`` (None: gone), e.g. ``note(context, "users", "ada", {"uid": 1000, …})``."""
    context.setdefault(KEY, {}).setdefault(kind, {})[name] = value


def applied(context: Mapping[str, Any], kind: str, real: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there with the forecast laid over it."""
    merged = {**real, **context.get(KEY, {}).get(kind, {})}
    return {name: value for name, value in merged.items() if value is not None}


def runs(context: Mapping[str, Any]) -> bool:
    """Return whether the programs of packages run: not in a dry run that would first finish what dpkg began.

    A program that is unpacked already may lack its library.
    """
    return not applied(context, "unfinished", {})


def bring(context: MutableMapping[str, Any], packages: Iterable[str]) -> None:
    """Keep that this run, dry or not, installs packages that were not there: their services come up with it."""
    context.setdefault(BROUGHT, set()).update(packages)


def brought(context: Mapping[str, Any]) -> set[str]:
    """Return the packages that this run installs, or would."""
    return set(context.get(BROUGHT, ()))
