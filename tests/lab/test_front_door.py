"""salt-ssh as an operator types it never ends green when nothing ran, says in one sentence why, and leaves no trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import Host, Lab
from labkit.checkout import Checkout, Result

from .conftest import ACCESS

pytestmark = pytest.mark.lab

APPLY = ("state.apply", ",".join(ACCESS))

Shown = Callable[[str, Result], None]
# A run that fails before it reaches a host; the longest is the wait for an address that never answers.
SOON = 60  # on a machine that is busy with other tests too


def refused(result: Result, *words: str) -> None:
    """Fail unless a run was refused soon, with a sentence that has these words and no traceback."""
    said = result.stdout + result.stderr
    assert result.returncode != 0, result
    assert result.seconds < SOON, result
    assert "Traceback" not in said, result
    for word in words:
        assert word in said, result
    assert len(said.strip().splitlines()) <= 13, result


# --- what cannot work


def test_unknown_target(checkout: Checkout, shown: Shown) -> None:
    result = checkout.salt("nobody", "state.apply")
    shown("unknown target", result)
    refused(result, "nobody: no such host in etc/salt/roster; there are mail")


@pytest.mark.parametrize("text", ["", "{}\n", "# nothing yet\n"])
def test_empty_roster(checkout: Checkout, shown: Shown, text: str) -> None:
    (checkout.directory / "etc/salt/roster").write_text(text)
    result = checkout.salt("mail", "state.apply")
    shown("empty roster", result)
    refused(result, "etc/salt/roster; there are none")


def test_no_roster(checkout: Checkout, shown: Shown) -> None:
    (checkout.directory / "etc/salt/roster").unlink()
    result = checkout.salt("mail", "state.apply")
    shown("no roster", result)
    refused(result, "etc/salt/roster: is missing; copy etc/salt/roster.example there")


@pytest.mark.parametrize("text", ["mail: [", "- mail", "mail: 203.0.113.5", "mail: {host: a.b, environment: dev}"])
def test_broken_roster(checkout: Checkout, shown: Shown, text: str) -> None:
    (checkout.directory / "etc/salt/roster").write_text(text)
    result = checkout.salt("mail", "state.apply")
    shown("broken roster", result)
    refused(result, "etc/salt/roster: ")


def test_misspelt_environment(entered: Host, checkout: Checkout, shown: Shown) -> None:
    result = checkout.salt("mail", "state.apply", "pillarenv=prdo")
    shown("misspelt pillarenv", result)
    refused(result, "pillarenv: 'prdo' is no environment; there are dev, staging, prod")


def test_misspelt_environment_variable(entered: Host, checkout: Checkout, shown: Shown) -> None:
    result = checkout.salt("mail", "state.apply", env={"MAILHOST_ENV": "stagign"})
    shown("misspelt MAILHOST_ENV", result)
    refused(result, "MAILHOST_ENV: 'stagign' is no environment; there are dev, staging, prod")


def test_invalid_pillar(checkout: Checkout, shown: Shown) -> None:
    checkout.pillar({"access": {"admin": {"ssh_keys": [], "uid": "1000"}, "amdin": {}}})
    result = checkout.salt("mail", "state.apply")
    shown("invalid pillar", result)
    refused(result, "access.admin.ssh_keys: is empty", "access.admin.uid: '1000' is not", "access.amdin: no such key")


def test_misspelt_sls(entered: Host, checkout: Checkout, shown: Shown) -> None:
    result = checkout.salt("mail", "state.apply", "acces.sudo")
    shown("misspelt sls", result)
    refused(result, "acces.sudo")


def test_misspelt_function(entered: Host, checkout: Checkout, shown: Shown) -> None:
    result = checkout.salt("mail", "state.aply")
    shown("misspelt function", result)
    refused(result, "state.aply")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["TEST=True"], "TEST: no such argument; write test=True"),
        (['pillar={"firewall": {"rules": [{"port": 25}]}}'], "firewall.rules: rule 1: from: is missing"),
    ],
)
def test_misspelt_argument(entered: Host, checkout: Checkout, shown: Shown, words: list[str], sentence: str) -> None:
    result = checkout.salt("mail", "state.apply", *words)
    shown(f"misspelt argument: {' '.join(words)}", result)
    refused(result, sentence)


@pytest.mark.parametrize("address", ["silent", "refusing"])
def test_unreachable_host(mail_lab: Lab, fresh: Host, checkout: Checkout, shown: Shown, address: str) -> None:
    if address == "silent":
        there = mail_lab.namespace("nobody").ipv4.rpartition(".")[0] + ".250"
    else:
        there = fresh.ipv4
        fresh.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    checkout.roster({"mail": checkout.entry(fresh, host=there)})
    result = checkout.salt("mail", "state.apply")
    shown(f"unreachable host ({address})", result)
    refused(result, "mail: no endpoint lets us in", f"root@{there}:22")


def test_key_that_opens_nothing(entered: Host, checkout: Checkout, shown: Shown, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    checkout.roster({"mail": checkout.entry(entered, priv=str(tmp_path / "key"))})
    result = checkout.salt("mail", "state.apply")
    shown("key that opens nothing", result)
    refused(result, "mail: no endpoint lets us in", "Permission denied")


# --- what goes wrong on the way


def test_state_archive_not_delivered(entered: Host, checkout: Checkout, shown: Shown) -> None:
    """The host's disk is full: Salt alone would end with a traceback, or run no state and exit 0."""
    entered.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", "/var/tmp"])
    result = checkout.salt("mail", "state.apply")
    shown("no room on the host", result)
    refused(result, "/var/tmp has 1 MB free, and Salt needs 64: make room")


@pytest.mark.thorough("what a quicker test shows in part")
def test_thin_directory_not_writable(entered: Host, checkout: Checkout, shown: Shown) -> None:
    assert checkout.apply(*ACCESS, test=True).returncode == 0
    spoil = "cd /var/tmp; thin=$(echo .phalkonadmin_*_salt); rm -r $thin; mkdir -m 700 $thin; chown 12345 $thin"
    entered.run(["sh", "-euc", spoil])
    run = checkout.apply(*ACCESS)
    shown("thin directory another's", run.result)
    assert len(run) > 10 if run.returncode == 0 else not run, run.result


@pytest.mark.thorough("what a quicker test shows in part")
def test_two_runs_at_once(fresh: Host, checkout: Checkout, shown: Shown) -> None:
    """Either one is refused in words, or both end well one after the other; they are never on the host together."""
    begun = time.monotonic()
    processes = [checkout.start("mail", *APPLY, "--out=json") for _ in range(2)]
    results = [checkout.finish(process, begun) for process in processes]
    for result in results:
        shown("two runs at once", result)
    runs = [checkout.read(result) for result in results]
    assert any(run.returncode == 0 and run.changed and not run.failed for run in runs), results
    for run in runs:
        if run.returncode != 0:
            assert re.search("another (run|salt-ssh) is", run.result.stdout + run.stderr), run.result
        else:
            assert len(run) > 10, run.result
    spans = [_span(result) for result in results if checkout.read(result).changed]
    assert len(spans) == 1 or spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]
    again = checkout.apply(*ACCESS)
    assert (again.returncode, again.changed) == (0, {}), again.result


def _span(result: Result) -> tuple[str, str]:
    """Return when a run's first state began and its last one."""
    times = [state["start_time"] for state in result.data()["mail"].values()]
    return min(times), max(times)


@pytest.mark.shown_by("interrupt")
@pytest.mark.parametrize("how", ["interrupt", "terminate", "kill"])
def test_run_stopped_by_the_operator(fresh: Host, checkout: Checkout, shown: Shown, how: str) -> None:
    """Ctrl-C, and worse, in the middle of a run: the host is in order and the next run works."""
    begun = time.monotonic()
    process = checkout.start("mail", *APPLY)
    _wait_for_task(fresh, "1.2.2")
    os.killpg(process.pid, {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[how])
    result = checkout.finish(process, begun, 30)
    shown(f"stopped: {how}", result)
    assert result.returncode != 0, result
    if how == "interrupt":
        assert "Traceback" not in result.stderr, result
    _next_run_works(fresh, checkout)


@pytest.mark.thorough("what a quicker test shows in part")
def test_connection_cut(mail_lab: Lab, fresh: Host, checkout: Checkout, shown: Shown) -> None:
    """The network between the operator and the host dies in the middle of a run."""
    operator = mail_lab.namespace("operator")
    begun = time.monotonic()
    process = checkout.start("mail", *APPLY, inside=operator)
    _wait_for_task(fresh, "1.2.2")
    drop = ["iptables", "-I", "INPUT", "-s", fresh.ipv4, "-j", "DROP"]
    operator.run(drop)
    try:
        result = checkout.finish(process, begun, 60)
    finally:
        operator.run(["iptables", "-F"])
    shown("connection cut", result)
    assert result.returncode != 0, result
    _next_run_works(fresh, checkout)


def _wait_for_task(host: Host, task: str, timeout: float = 60) -> None:
    """Wait until a run on the host says that it is at a task."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        said = host.run(["cat", "/run/mailhost/progress"], check=False).stdout
        if json.dumps({"task": task}) in said:
            return
        time.sleep(0.05)
    raise AssertionError(f"the run never came to {task}")


def _next_run_works(host: Host, checkout: Checkout) -> None:
    """Fail unless the next run converges the host, at once or when the stopped one is gone from the host."""
    for _ in range(20):
        run = checkout.apply(*ACCESS)
        if run.returncode == 0:
            break
        assert "another run" in run.result.stdout or "not confirmed" in run.result.stdout, (run.failed, run.stderr)
        time.sleep(2)
    assert run.returncode == 0, run.result
    again = checkout.apply(*ACCESS)
    assert (again.returncode, again.changed) == (0, {}), again.result
    _nothing_left(host)


# --- what works


@pytest.mark.thorough("what a quicker test shows in part")
def test_exit_code_is_0_when_all_is_well(fresh: Host, checkout: Checkout, shown: Shown) -> None:
    for words in ([*APPLY, "test=True"], APPLY, [*APPLY, "test=True"], ["state.apply", "status"]):
        result = checkout.salt("mail", *words)
        shown(" ".join(words), result)
        assert result.returncode == 0, result
        assert re.search(r"mail: [1-9][0-9]* states, ", result.stdout), result


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_pillar_that_is_typed_is_parsed_as_those_of_files(fresh: Host, checkout: Checkout) -> None:
    rules = 'pillar={"firewall": {"rules": [{"port": 25, "from": "public", "comment": "typed"}]}}'
    run = checkout.apply("firewall.rules", test=True, words=[rules])
    assert run.returncode == 0, run.result
    assert "typed" in run.result.stdout, run.result


@pytest.mark.thorough("what a quicker test shows in part")
def test_nothing_stays_on_the_host(fresh: Host, checkout: Checkout) -> None:
    assert checkout.apply(*ACCESS, test=True).returncode == 0
    assert checkout.apply(*ACCESS).returncode == 0
    _nothing_left(fresh)


def _nothing_left(host: Host) -> None:
    """Fail if a run has left processes, pillar or temporary files; sshd's own for a kept connection may end late."""
    mine = re.compile(r"salt|tail|python|mailhost|sudo")
    until = time.monotonic() + 30
    while found := [line for line in host.run(["ps", "-eo", "args"]).stdout.splitlines() if mine.search(line)]:
        assert time.monotonic() < until, found
        time.sleep(0.2)
    assert host.run(["find", "/tmp", "/var/tmp", "-name", "*.tgz"]).stdout == ""
    there = host.run(["ls", "-A", "/tmp", "/root", "/home/phalkonadmin"]).stdout.splitlines()
    assert not [name for name in there if re.match(r"\.?(tmp|mailhost|salt)", name)], there
    assert host.run(["ls", "/run/mailhost"]).stdout.split() == ["lock", "place", "progress"]
