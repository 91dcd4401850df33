"""Options of what is mounted: now and in fstab(5). Pure."""

from collections.abc import Iterable, Mapping
from typing import Any


def mounted(mounts: str) -> dict[str, tuple[str, list[str]]]:
    """Return what is mounted where: type and options by mount point, of the last one where several lie on each other."""
    fields = [line.split() for line in mounts.splitlines()]
    return {words[1]: (words[2], words[3].split(",")) for words in fields}


def with_entry(fstab: str, path: str, kind: str, options: Iterable[str]) -> str:
    """Return fstab with an entry that gives a mount point these options, those it has kept; ``kind`` is a new entry's."""
    lines = fstab.splitlines()
    for at, line in enumerate(lines):
        words = line.split()
        if len(words) >= 4 and words[1] == path and not line.lstrip().startswith("#"):
            missing = [option for option in options if option not in words[3].split(",")]
            if missing:
                words[3] = ",".join([*words[3].split(","), *missing])
                lines[at] = "\t".join(words)
            return "\n".join(lines) + "\n"
    return "\n".join([*lines, "\t".join([kind, path, kind, ",".join(["defaults", *options]), "0", "0"])]) + "\n"


def plan(path: str, options: Iterable[str], mounts: str) -> dict[str, Any]:
    """Return the change of a mount point's live options, empty when it has them all or is not mounted."""
    options = list(options)
    if path not in (there := mounted(mounts)):
        return {}
    live = there[path][1]
    missing = [option for option in options if option not in live]
    return {"options": {"old": ",".join(live[:6]), "new": f"and {','.join(missing)}"}} if missing else {}
