"""Packages: what apt-get says it would do. Pure."""

import re

# apt-get(8), -s: lines of "Inst package [installed version] (new version …)".
_INST = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+) ", re.MULTILINE)


def parse_simulation(output: str) -> dict[str, dict[str, str]]:
    """Return the packages apt-get would install, ``{"sudo": {"old": "", "new": "1.9.16p2-3"}}``."""
    return {name: {"old": old, "new": new} for name, old, new in _INST.findall(output)}
