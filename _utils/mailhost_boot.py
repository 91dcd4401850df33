"""What GRUB tells the kernel when it starts: its words, the file that adds them, and what is missing. Pure."""

import re
from collections.abc import Mapping
from typing import Any

UPDATE = "/usr/sbin/update-grub"
MENU = "/boot/grub/grub.cfg"
# Read by grub-mkconfig after /etc/default/grub: the provider's own words, its serial console's, stay.
FILE = "/etc/default/grub.d/90-mailhost.cfg"


def text(arguments: Mapping[str, str]) -> str | None:
    """Return the file that adds words to the kernel's command line, None when there are none to add."""
    if not arguments:
        return None
    words = " ".join(f"{name}={value}" for name, value in arguments.items())
    return f'# Managed by Salt: changes made here are lost.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {words}"\n'


def found(menu: str, name: str) -> str | None:
    """Return what all entries of GRUB's menu that start Linux set a word to; None when one of them does not set it."""
    commands = [line for line in re.findall(r"^\s*linux\s.*$", menu, re.MULTILINE) if "memtest" not in line]
    values = [re.findall(rf"\s{re.escape(name)}=(\S+)", line)[-1:] for line in commands]
    return values[0][0] if values and values[0] and all(value == values[0] for value in values) else None


def plan(arguments: Mapping[str, str], looked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs, by what it is: the file, and words of the menu that is made of it.

    Params: arguments, values by word; looked, what ``mailhost_boot.look`` found. Where there is no GRUB nothing does.
    """
    if not looked["grub"]:
        return {}
    wanted = text(arguments)
    changes: dict[str, Any] = {}
    if looked["file"] != wanted:
        changes["file"] = {"old": looked["file"], "new": wanted}
    for name, value in arguments.items():
        if (old := found(looked["menu"], name)) != value:
            changes[name] = {"old": old, "new": value}
    return changes
