"""What earlier states of a dry run would have made of the host, so that later ones plan on that.

Kept in Salt's ``__context__``, which lives as long as one run. A real run never writes here.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

KEY = "mailhost.forecast"


def note(context: MutableMapping[str, Any], kind: str, name: str, value: Any) -> None:
    """Note that ``name`` would be ``value`` (None: gone), e.g. ``note(context, "users", "ada", {"uid": 1000, …})``."""
    context.setdefault(KEY, {}).setdefault(kind, {})[name] = value


def applied(context: Mapping[str, Any], kind: str, real: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there with the forecast laid over it."""
    merged = {**real, **context.get(KEY, {}).get(kind, {})}
    return {name: value for name, value in merged.items() if value is not None}
