"""What a state returns: one way to say unchanged, would change, changed and failed."""

import functools
from collections.abc import Callable, MutableMapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_forecast

PENDING = "mailhost.pending"


def outcome(
    dunders: tuple[Any, MutableMapping[str, Any]],
    name: str,
    changes: dict[str, Any],
    act: Callable[[], object],
    already: str,
) -> dict[str, Any]:
    """Return a state's result, doing the work between plan and report when this is no test.

    The changes come from the plan, so a test predicts exactly what the real run reports.

    dunders
        The state's ``__opts__`` and ``__context__``.
    name
        The state's name.
    changes
        What differs; empty when nothing does.
    act
        Makes the changes; raises CommandExecutionError when it cannot.
    already
        What to say when nothing differs.
    """
    opts, context = dunders
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": already}
    if opts["test"]:
        context[PENDING] = True
        mailhost_forecast.note(context, "changed", name, True)
        return {"name": name, "result": None, "changes": changes, "comment": f"would change {', '.join(changes)}"}
    act()
    return {"name": name, "result": True, "changes": changes, "comment": f"changed {', '.join(changes)}"}


def explained(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a state fail with the words of the CommandExecutionError that stopped it."""

    @functools.wraps(function)
    def state(name: str, *arguments: Any, **named: Any) -> dict[str, Any]:
        try:
            return function(name, *arguments, **named)
        except CommandExecutionError as error:
            return {"name": name, "result": False, "changes": {}, "comment": str(error)}

    return state
