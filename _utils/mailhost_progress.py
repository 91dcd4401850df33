"""What a run on the host tells the workstation that follows it: one JSON object a line. Pure.

``{"task": "1.2.3"}`` – this task begins. ``{"note": "…"}`` – the operator should read this now. ``{"login": "ada"}`` –
somebody should log in as ada now and try sudo. ``{"confirm": {"user": …, "addresses": […], "port": …, "token": …}}`` –
somebody should log in by this way and confirm a change. ``{"end": "…"}`` – nothing follows for who gave this token.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any

DIRECTORY = "/run/mailhost"
NAME = "progress"

_USER = r"[a-z_][a-z0-9_-]{0,31}"
_TOKEN = r"[0-9a-f]{16}"


def parse(line: str) -> dict[str, Any] | None:
    """Return what a line says, or None when it is no line of ours: the host is not trusted to be sane."""
    try:
        said = json.loads(line)
        ((kind, value),) = said.items()
        valid = _VALID[kind](value)
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return said if valid else None


def _confirm(value: Any) -> bool:
    """Whether this is a way in that can be tried; raises what parse() catches when it is not."""
    for address in value["addresses"]:
        ipaddress.ip_address(address)
    return (
        re.fullmatch(_USER, value["user"]) is not None
        and re.fullmatch(_TOKEN, value["token"]) is not None
        and isinstance(value["port"], int)
        and 1 <= value["port"] <= 65535
    )


_VALID: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: isinstance(value, str),
    "note": lambda value: isinstance(value, str) and value.isprintable(),
    "login": lambda value: re.fullmatch(_USER, value) is not None,
    "confirm": _confirm,
    "end": lambda value: re.fullmatch(_TOKEN, value) is not None,
}
