"""Options of what is mounted: now and in fstab(5). Pure."""

from collections.abc import Iterable, Mapping
from typing import Any


def mounted(mounts: str) -> dict[str, tuple[str, list[str]]]:
    """Return what is mounted where: type and options by mount point, of the uppermost one."""
    fields = [line.split() for line in mounts.splitlines()]
    return {words[1]: (words[2], words[3].split(",")) for words in fields}


def with_entry(fstab: str, path: str, options: Iterable[str]) -> str:
    """Return fstab with an entry that mounts a tmpfs with these options; an entry that is there keeps those it has."""
    lines = fstab.splitlines()
    for at, line in enumerate(lines):
        words = line.split()
        if len(words) >= 4 and words[1] == path and not line.lstrip().startswith("#"):
            there = words[3].split(",")
            if missing := [option for option in options if option not in there]:
                words[3] = ",".join([*there, *missing])
                lines[at] = "\t".join(words)
            return "\n".join(lines) + "\n"
    return "\n".join([*lines, "\t".join(["tmpfs", path, "tmpfs", ",".join(["defaults", *options]), "0", "0"])]) + "\n"


def plan(wanted: Mapping[str, str], mounts: str, fstab: str) -> tuple[dict[str, Any], str]:
    """Return the changes of the live options, by mount point, and fstab as it should be.

    A file system in memory needs an entry for noexec, where it lacks an option, and where it has an entry: nosuid and
    nodev are systemd's own choice.
    """
    there = mounted(mounts)
    changes: dict[str, Any] = {}
    for path, text in wanted.items():
        kind, live = there.get(path, ("", []))
        if kind != "tmpfs":
            continue
        options = text.split(",")
        if missing := [option for option in options if option not in live]:
            changes[path] = {
                "old": ",".join(option for option in live if "=" not in option),
                "new": f"and {','.join(missing)}",
            }
        if missing or "noexec" in options or any(line.split()[1:2] == [path] for line in fstab.splitlines()):
            fstab = with_entry(fstab, path, options)
    return changes, fstab
