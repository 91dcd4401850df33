"""What a run on the host tells the workstation that follows it: one JSON object a line. Pure.

``{"task": "1.2.3"}`` – this task begins. ``{"login": "ada"}`` – somebody should log in as ada now and try sudo.
"""

import json
import re
from typing import Any

DIRECTORY = "/run/mailhost"
NAME = "progress"
PATH = f"{DIRECTORY}/{NAME}"


def parse(line: str) -> dict[str, Any] | None:
    """Return what a line says, or None when it is no line of ours: the host is not trusted to be sane."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or len(said) != 1:
        return None
    if isinstance(said.get("task"), str):
        return said
    login = said.get("login")
    return said if isinstance(login, str) and re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", login) else None
