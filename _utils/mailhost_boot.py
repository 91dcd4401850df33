"""What GRUB tells the kernel when it starts, and who may change that in its menu: files, and what is missing. Pure."""

import re
from collections.abc import Mapping
from typing import Any

UPDATE = "/usr/sbin/update-grub"
MENU = "/boot/grub/grub.cfg"
# Read by grub-mkconfig after /etc/default/grub: the provider's own words, its serial console's, stay.
FILE = "/etc/default/grub.d/90-mailhost.cfg"
# Run by grub-mkconfig after 00_header, which sets what every entry's command begins with: an entry without
# --unrestricted would ask for the password at each start of the host.
LOCK = "/etc/grub.d/01_mailhost"
_LOCK = """#!/bin/sh
# Managed by Salt: changes made here are lost.
cat <<'END'
set superusers="root"
password_pbkdf2 root {password}
menuentry_id_option="--unrestricted $menuentry_id_option"
export menuentry_id_option
END
"""


def text(arguments: Mapping[str, str]) -> str | None:
    """Return the file that adds words to the kernel's command line, None when there are none to add."""
    if not arguments:
        return None
    words = " ".join(f"{name}={value}" for name, value in arguments.items())
    return f'# Managed by Salt: changes made here are lost.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {words}"\n'


def lock(password: str | None) -> str | None:
    """Return the script that has the menu ask root's password before an entry is changed, None when there is none.

    password
        What grub-mkpasswd-pbkdf2(1) prints of it.
    """
    return _LOCK.format(password=password) if password else None


def password_of(menu: str) -> str | None:
    """Return the hash of the password that GRUB's menu asks for; None when it asks for none, or at each start too."""
    said = re.search(r'^set superusers="root"\npassword_pbkdf2 root (\S+)$', menu, re.MULTILINE)
    starts = re.search(r'^menuentry_id_option="--unrestricted ', menu, re.MULTILINE)
    return said[1] if said and starts else None


def found(menu: str, name: str) -> str | None:
    """Return what all entries of GRUB's menu that start Linux set a word to; None when one of them does not set it."""
    commands = [line for line in re.findall(r"^\s*linux\s.*$", menu, re.MULTILINE) if "memtest" not in line]
    values = [re.findall(rf"\s{re.escape(name)}=(\S+)", line)[-1:] for line in commands]
    return values[0][0] if values and values[0] and all(value == values[0] for value in values) else None


def plan(arguments: Mapping[str, str], password: str | None, looked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs, by what it is: the file, words of the menu that is made of it, and the menu's password.

    Params: arguments, values by word; password, the hash that the menu is to ask for, never repeated in what differs;
    looked, what ``mailhost_boot.look`` found. Where there is no GRUB nothing does.
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
    asked = password_of(looked["menu"])
    if looked["lock"] != lock(password) or (password and asked != password):
        old = "as declared" if asked == password else "another" if asked else "none"
        changes["password of the menu"] = {"old": old, "new": "as declared" if password else "none"}
    return changes
