"""A host that is rebooted is as before; one that loses power in the middle of a run is put right by the next."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable

import pytest

from labkit import Host
from labkit.checkout import Checkout

pytestmark = pytest.mark.lab

# What lets the operator in, changes how, and is done in seconds: a cut hits the middle of it.
SLS = "access.ssh_proven"

# Seconds after the run has begun on the host; it takes two or three there.
SEED = 13
_CHANCE = random.Random(SEED)
MOMENTS = [round(_CHANCE.uniform(0, 2.5), 2) for _ in range(10)]


@pytest.mark.thorough("what a quicker test shows in part")
def test_reboot_changes_nothing(converged: Host, checkout: Checkout) -> None:
    before = checkout.tracker()
    assert checkout.apply(test=True).changed == {}
    converged.reboot(port=None)
    after = checkout.tracker()
    assert {task: mark for task, (mark, _) in after.items()} == {task: mark for task, (mark, _) in before.items()}
    dry, real = checkout.apply(test=True), checkout.apply()
    assert (dry.returncode, dry.changed) == (0, {}), dry.changed
    assert (real.returncode, real.changed) == (0, {}), real.changed


@pytest.mark.shown_by("0.65")
@pytest.mark.parametrize("moment", MOMENTS)
def test_power_cut_in_the_middle_of_a_run(fresh: Host, checkout: Checkout, moment: float) -> None:
    """Booted again it lets the operator in, after another reboot too, and the next run puts all right."""
    begun = time.monotonic()
    process = checkout.start("mail", "state.apply", SLS, "--out=json")
    _wait(lambda: fresh.run(["cat", "/run/mailhost/progress"], check=False).stdout)
    time.sleep(moment)
    at = fresh.run(["tail", "-n", "1", "/run/mailhost/progress"], check=False).stdout.strip()
    fresh.power_cut()
    result = checkout.finish(process, begun, 60)
    print(f"seed {SEED}: cut {moment} s after the run began, at: {at}; salt-ssh ended with {result.returncode}")
    assert result.returncode != 0 or Checkout.read(result).marks["1.2.5"] == "[x]", result
    fresh.boot(port=None)
    assert _gets_in(fresh)
    fresh.reboot(port=None)
    assert _gets_in(fresh)
    _converges(checkout, interrupted=_interrupted(fresh))
    assert _gets_in(fresh, "phalkonadmin")
    assert not fresh.run(["ls", "/var/lib/mailhost/guard"], check=False).stdout.split().count("armed.json")


def test_power_cut_while_packages_are_installed(fresh: Host, checkout: Checkout) -> None:
    """dpkg is stopped half-way: apt then refuses everything until dpkg has been let finish."""
    fresh.run(["sh", "-euc", "SUDO_FORCE_REMOVE=yes apt-get -qy purge sudo"])
    begun = time.monotonic()
    process = checkout.start("mail", "state.apply", SLS, "--out=json")
    _wait(lambda: re.search(r"dpkg .*--(unpack|configure)", fresh.run(["ps", "-eo", "args"]).stdout))
    fresh.power_cut()
    checkout.finish(process, begun, 60)
    fresh.boot(port=None)
    assert _gets_in(fresh)
    _converges(checkout)
    assert fresh.run(["dpkg", "--audit"]).stdout == ""


def _gets_in(host: Host, *users: str) -> bool:
    """Return whether the operator can log in and become root: as the admin, or as root while there is no admin."""
    become = ["sudo", "-n", "true"]
    return any(
        host.ssh(["true"] if user == "root" else become, user=user, check=False).returncode == 0
        for user in users or ("phalkonadmin", "root")
    )


def _interrupted(host: Host) -> bool:
    """Return whether the cut hit the middle of a change of access: armed, and not said to be made."""
    armed = host.run(["cat", "/var/lib/mailhost/guard/armed.json"], check=False).stdout
    return bool(armed) and json.loads(armed)["changed"] is None


def _converges(checkout: Checkout, *, interrupted: bool = False) -> None:
    """Fail unless the next run puts everything right, as its dry run has said, and the one after finds nothing.

    After a change of access that was interrupted the run puts that back first, which no dry run does.
    """
    dry, real, again = checkout.apply(SLS, test=True), checkout.apply(SLS), checkout.apply(SLS)
    assert (dry.failed, real.failed, real.returncode) == ({}, {}, 0), (dry.failed, real.result)
    assert ("ended in the middle of it" in real.stderr) == interrupted
    foreseen, made = ({name: set(changes) for name, changes in run.changed.items()} for run in (dry, real))
    assert foreseen == made or (interrupted and foreseen.items() <= made.items()), (foreseen, made)
    assert (again.returncode, again.changed) == (0, {}), again.failed or again.changed


def _wait(condition: Callable[[], object], timeout: float = 60) -> None:
    """Wait until something is true."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
