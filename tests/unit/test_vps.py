"""What a host is, against what was declared."""

from typing import Any

import pytest

import mailhost_pillar
import mailhost_vps
from compiled import GOOD

WANTED = mailhost_pillar.plain(mailhost_pillar.parse(GOOD))["provision"]
# A VPS of 2 CPUs, 4 GB and 80 GB: the kernel keeps some memory, ext4 and the boot partition some of the disk.
FOUND: dict[str, Any] = {
    "os": "Debian GNU/Linux 13 (trixie)",
    "id": "debian",
    "version": "13",
    "cpus": 2,
    "memory_gb": 3_991_212 * 1024,
    "disk_gb": 79_100_000_000,
}
TRIXIE = """PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
# a comment
ID=debian
"""


def test_as_ordered() -> None:
    assert mailhost_vps.is_debian(FOUND)
    assert mailhost_vps.smaller(WANTED, FOUND) == []
    assert mailhost_vps.said(FOUND) == "Debian GNU/Linux 13 (trixie), 2 CPUs, 3.8 GB of memory, 79 GB of disk"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cpus": 1}, "provision.cpus says 2"),
        ({"memory_gb": 2**31}, "provision.memory_gb says 4"),
        ({"disk_gb": 55 * 10**9}, "provision.disk_gb says 80"),
        ({"disk_gb": 160 * 10**9}, None),
    ],
)
def test_smaller_than_ordered(changed: dict[str, Any], words: str | None) -> None:
    assert mailhost_vps.smaller(WANTED, {**FOUND, **changed}) == ([words] if words else [])


@pytest.mark.parametrize("changed", [{"version": "12"}, {"version": ""}, {"id": "ubuntu", "version": "13"}])
def test_another_system(changed: dict[str, Any]) -> None:
    assert not mailhost_vps.is_debian({**FOUND, **changed})


def test_os_release() -> None:
    found = mailhost_vps.os_release(TRIXIE)
    assert (found["ID"], found["VERSION_ID"], found["PRETTY_NAME"]) == ("debian", "13", "Debian GNU/Linux 13 (trixie)")
