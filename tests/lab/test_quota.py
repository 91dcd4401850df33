"""Disk quotas for mail, on a virtual machine: a container's file system and this machine's kernel have none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import ASKED, Lab, Virtual
from labkit.checkout import Checkout

pytestmark = pytest.mark.lab

STATE = "quotas for mail"
FSTAB = "errors=remount-ro,usrjquota=aquota.user,jqfmt=vfsv1"
# Room is taken without a byte being written. It is the account that is bound, wherever its files are.
TAKE = "setpriv --reuid 5000 --regid 5000 --clear-groups fallocate -l {} /var/tmp/{}"


@pytest.fixture(scope="module")
def machine() -> Iterator[Virtual]:
    """A running virtual machine as the provider delivers it."""
    if not os.environ.get(ASKED):
        pytest.skip(f"a virtual machine is booted with {ASKED}=1 only: emulated it takes ten minutes")
    with Lab(f"virtual-{os.getpid()}") as lab:
        made = lab.virtual("mail")
        made.boot()
        yield made


@pytest.mark.thorough("needs a virtual machine, and MAILHOST_LAB_VIRTUAL=1")
def test_quotas_bound_what_mail_takes(machine: Virtual, tmp_path: Path) -> None:
    """Predicted and made, made once, enforced, kept over a reboot, and switched off by hand as the page says."""
    with Checkout(tmp_path / "c", machine) as checkout:
        _alone(checkout)
        _enabled(checkout, machine, True)

        before = _looked(machine)
        dry = checkout.apply("storage.quota", test=True)
        assert _looked(machine) == before
        real = checkout.apply("storage.quota")
        assert (dry.failed, real.failed) == ({}, {})
        assert dry.changed == real.changed
        assert real.marks["1.4.3"] == "[x]"
        assert not checkout.apply("storage.quota").changed
        assert f"\t/\text4\t{FSTAB}\t0\t1\n" in machine.read("/etc/fstab")
        _enforced(machine, "1G")

        said = machine.run(
            ["mailhost-quota", "set", "--soft", "2", "--hard", "3", "--user", "5000", "--dry-run"]
        ).stdout
        assert said == "setquota -u 5000 2097152 3145728 0 0 /\n"
        assert _limits(machine) == ["1048576", "1048576"]
        assert machine.run(["mailhost-quota", "set", "--soft", "2", "--hard", "3", "--user", "5000"]).stdout == said
        assert _limits(machine) == ["2097152", "3145728"]

        machine.reboot()
        assert machine.run(["mailhost-quota", "check"]).stdout.startswith("user quotas on / are on\n")
        assert machine.run(["mailhost-quota", "enable"]).stdout == ""
        _enforced(machine, "3G")

        _enabled(checkout, machine, False)
        assert not checkout.apply("storage.quota").changed
        machine.run(["quotaoff", "-u", "/"])
        assert machine.run(["mailhost-quota", "check"], check=False).stdout == "user quotas on / are off\n"
        machine.run(["sh", "-c", TAKE.format("4G", "free")])
        machine.run(["rm", "/var/tmp/free"])
        # The limits are where they were, in the file that must not be made anew.
        assert machine.run(["mailhost-quota", "enable"]).stdout == "quotacheck -um -F vfsv1 /\nquotaon -u /\n"
        assert _limits(machine) == ["2097152", "3145728"]


def _alone(checkout: Checkout) -> None:
    """Let the task need none of those before it, which take an emulated machine half an hour."""
    path = checkout.directory / "_utils/mailhost_registry.py"
    text = path.read_text()
    begin = text.index('"1.4.3"')
    path.write_text(text[:begin] + text[begin:].replace('("1.4.2",)', "()", 1))


def _enabled(checkout: Checkout, machine: Virtual, enabled: bool) -> None:
    quota = {"enabled": enabled, "soft_gb": 1, "hard_gb": 1}
    checkout.pillar({**checkout.good_pillar(machine), "storage": {"quota": quota}})


def _looked(machine: Virtual) -> str:
    """Return what a dry run must not change."""
    return machine.run(["sh", "-c", "cat /etc/fstab; findmnt -no OPTIONS /; ls / /usr/local/sbin; dpkg -l"]).stdout


def _limits(machine: Virtual) -> list[str]:
    """Return the account's soft and hard limit in KiB."""
    rows = machine.run(["repquota", "-u", "-n", "-v", "-O", "csv", "/"]).stdout.splitlines()
    return next(row.split(",")[4:6] for row in rows if row.startswith("#5000,"))


def _enforced(machine: Virtual, hard: str) -> None:
    """Take all that is allowed but a little, and be refused more."""
    machine.run(["sh", "-c", TAKE.format(f"{int(hard[:-1]) * 1024 - 64}M", "most")])
    refused = machine.run(["sh", "-c", TAKE.format("128M", "more")], check=False)
    machine.run(["rm", "-f", "/var/tmp/most", "/var/tmp/more"])
    assert refused.returncode != 0
    assert "Disk quota exceeded" in refused.stderr
