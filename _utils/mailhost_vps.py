"""What a host is: its system and its size, against what was declared. Pure."""

from collections.abc import Mapping
from typing import Any

DEBIAN = "13"
# The kernel and the file system keep some of what was paid for to themselves.
LEAST = 0.9


def os_release(text: str) -> dict[str, str]:
    """Return the values of os-release(5)."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip().strip("\"'") for name, value in pairs}


def is_debian(found: Mapping[str, Any]) -> bool:
    """Whether the host is the Debian that the tree is for, and not one made from it."""
    return (found["id"], found["version"]) == ("debian", DEBIAN)


def smaller(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return in what the host is smaller than declared.

    wanted
        Section ``provision`` of the pillar.
    found
        What ``mailhost_vps.look`` returned; memory and disk in bytes.
    """
    units = {"cpus": 1 / LEAST, "memory_gb": 2**30, "disk_gb": 10**9}
    return [
        f"provision.{key} says {wanted[key]}" for key, unit in units.items() if found[key] < LEAST * wanted[key] * unit
    ]


def said(found: Mapping[str, Any]) -> str:
    """Return what the host is, in a few words."""
    return (
        f"{found['os']}, {found['cpus']} CPUs, {found['memory_gb'] / 2**30:.1f} GB of memory, "
        f"{found['disk_gb'] / 10**9:.0f} GB of disk"
    )
