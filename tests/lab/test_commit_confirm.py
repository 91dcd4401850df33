"""Nobody is locked out: changes of access on a real host, good ones, bad ones, and with everything dying in between.

Every test ends with the operator logged in.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from labkit import Host, Lab, tools
from labkit.checkout import QUICK, Checkout, Run
from labkit.vpn import PLACEHOLDER, Peer

pytestmark = pytest.mark.lab

ADMIN = "phalkonadmin"
DROP_IN = "/etc/ssh/sshd_config.d/00-mailhost-scratch.conf"
GUARD = "/usr/local/sbin/mailhost-guard"


def scratch(checkout: Checkout, function: str, **arguments: object) -> None:
    """Write a state file that changes access after all that is needed for it."""
    (checkout.directory / "salt/scratch.sls").write_text(
        f"""#!py
from mailhost_sls import state

def run():
    return {{
        "include": ["access.ssh_proven"],
        "scratch": state({function!r}, name={DROP_IN!r}, require=[{{"sls": "access.ssh_proven"}}], **{arguments!r}),
    }}
"""
    )


def settings(checkout: Checkout, *declared: list[str]) -> None:
    scratch(checkout, "mailhost_sshd.settings", declared=list(declared), admin=ADMIN)


def apply(checkout: Checkout) -> Run:
    return checkout.apply("scratch")


def admin_gets_in(host: Host, port: int = 22) -> bool:
    return host.ssh(["sudo", "-n", "true"], user=ADMIN, port=port, check=False).returncode == 0


def drop(host: Host, port: int, how: str = "-I") -> None:
    """Let a firewall of the host drop a port (or no more, with -D), by this machine's iptables: the host has none."""
    rule = ["iptables", how, "INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"]
    subprocess.run(["nsenter", f"--net={host.address.handle}", *rule], check=True)


def guard(host: Host, command: str = "status") -> str:
    return host.run([GUARD, command], check=False).stdout.strip()


def timer_fires(host: Host) -> None:
    """Do what the timer does when its time has come."""
    host.run(["systemctl", "start", "mailhost-guard.service"])


def nothing_is_armed(host: Host) -> bool:
    found = host.run(["systemctl", "list-unit-files", "--quiet", "mailhost-guard.timer"], check=False).stdout.strip()
    return guard(host) == "nothing is armed" and found == ""


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Checkout], None]:
    """Return how to keep a workstation from confirming anything: a stand-in for one that lost the way."""

    def made(checkout: Checkout) -> None:
        follow = checkout.directory / "_utils/mailhost_follow.py"
        text = follow.read_text()
        assert '"confirm": self._confirm' in text
        follow.write_text(text.replace('"confirm": self._confirm', '"confirm": lambda way: None'))
        module = checkout.directory / "_modules/mailhost_guard.py"
        text = module.read_text()
        assert "WAIT_SECONDS = 20" in text
        module.write_text(text.replace("WAIT_SECONDS = 20", "WAIT_SECONDS = 3"))

    return made


def test_a_good_change_is_confirmed_by_the_run_itself(entered: Host, checkout: Checkout) -> None:
    settings(checkout, ["MaxAuthTries", "3"])
    run = apply(checkout)
    assert run.returncode == 0, run.result
    assert "armed, goes back in 10 min" in run.stderr
    assert "confirmed by a new login" in run.stderr
    assert nothing_is_armed(entered)
    assert "maxauthtries 3" in entered.run(["sshd", "-T"]).stdout
    assert apply(checkout).changed == {}


def test_a_change_that_would_lock_out_is_refused_before_anything_is_touched(entered: Host, checkout: Checkout) -> None:
    before = entered.run(["sh", "-c", "ls -la --time-style=full-iso /etc/ssh /etc/ssh/sshd_config.d"]).stdout
    for declared, words in (
        (["MaxAuthTires", "3"], "sshd refuses this"),
        (["AllowUsers", "nobody"], "allowusers names nobody only"),
        (["PubkeyAuthentication", "no"], "sshd would take no keys"),
        (["AuthenticationMethods", "publickey,password"], "sshd would ask for publickey,password"),
        (["DenyGroups", "sudo"], "denygroups names sudo"),
        (["AuthorizedKeysFile", "/nowhere"], "sshd would not read .ssh/authorized_keys"),
    ):
        settings(checkout, declared)
        for run in (checkout.apply("scratch", test=True), apply(checkout)):
            assert run.returncode != 0
            assert words in run["scratch"].comment
            assert "armed" not in run.stderr
    assert entered.run(["sh", "-c", "ls -la --time-style=full-iso /etc/ssh /etc/ssh/sshd_config.d"]).stdout == before
    assert admin_gets_in(entered)


def test_an_address_that_is_not_there_goes_back_at_once(entered: Host, checkout: Checkout) -> None:
    """sshd -t says yes to it, and sshd dies of it."""
    settings(checkout, ["ListenAddress", "192.0.2.1"])
    run = apply(checkout)
    assert run.returncode != 0
    assert "everything is as it was" in run.stderr
    assert nothing_is_armed(entered)
    assert admin_gets_in(entered)
    assert entered.run(["test", "-e", DROP_IN], check=False).returncode == 1


@pytest.mark.thorough("what a quicker test shows in part")
def test_keys_that_nobody_logs_in_with_go_back(entered: Host, checkout: Checkout) -> None:
    """The run came in by a key that it takes away: its own login says nothing of the new one."""
    file = f"/home/{ADMIN}/.ssh/authorized_keys"
    before = entered.read(file)
    stranger = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEv8xVcPYvL3mrHqVTP8cXwCPHTkaPWo7SSMQW6TjTQm mallory"
    checkout.pillar({**Checkout.good_pillar(entered), "access": {"admin": {"ssh_keys": [stranger]}}})
    run = checkout.apply("access.ssh_proven")
    assert run.returncode != 0
    assert f"the keys of {ADMIN}: it goes back at" in run.failed[f"{ADMIN} logs in with the declared keys only"]
    assert not admin_gets_in(entered)
    timer_fires(entered)
    assert entered.read(file) == before
    assert admin_gets_in(entered)
    # One that the workstation has is confirmed, beside the stranger's.
    keys = [Checkout.public_key(entered), stranger]
    checkout.pillar({**Checkout.good_pillar(entered), "access": {"admin": {"ssh_keys": keys}}})
    run = checkout.apply("access.ssh_proven")
    assert run.returncode == 0, run.result
    assert f"the keys of {ADMIN}: confirmed by a new login" in run.stderr
    assert run.marks["1.2.5"] == "[x]"
    assert nothing_is_armed(entered)
    assert checkout.apply("access.ssh_proven").changed == {}


def test_an_admin_without_a_key_stops_the_change(entered: Host, checkout: Checkout) -> None:
    """The keys are put right before the change in a run of ours, so this asks the guard itself."""
    scratch(checkout, "mailhost_sshd.settings", declared=[["MaxAuthTries", "3"]], admin="games")
    run = apply(checkout)
    assert run.returncode != 0
    assert "games has no key to log in with" in run["scratch"].comment
    assert admin_gets_in(entered)
    assert nothing_is_armed(entered)


def test_what_nobody_confirms_goes_back(entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]) -> None:
    blind(checkout)
    settings(checkout, ["MaxAuthTries", "3"])
    run = apply(checkout)
    assert run.returncode != 0
    assert "goes back at" in run["scratch"].comment
    assert guard(entered).startswith("sshd: ")
    assert "maxauthtries 3" in entered.run(["sshd", "-T"]).stdout
    timer_fires(entered)
    assert nothing_is_armed(entered)
    assert "maxauthtries 6" in entered.run(["sshd", "-T"]).stdout
    assert admin_gets_in(entered)
    told = checkout.apply("access.admin")
    assert told.returncode == 0
    assert "was not confirmed, everything went back at" in told.stderr
    assert "went back" not in checkout.apply("access.admin").stderr


@pytest.mark.thorough("what a quicker test shows in part")
def test_the_timer_itself_takes_it_back(entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]) -> None:
    blind(checkout)
    pillar = checkout.good_pillar(entered)
    pillar["access"]["confirm_minutes"] = 1
    checkout.pillar(pillar)
    settings(checkout, ["MaxAuthTries", "3"])
    assert apply(checkout).returncode != 0
    until = time.monotonic() + 90
    while guard(entered) != "nothing is armed":
        assert time.monotonic() < until, "the timer did not fire"
        time.sleep(2)
    assert "maxauthtries 6" in entered.run(["sshd", "-T"]).stdout
    assert admin_gets_in(entered)


@pytest.mark.thorough("what a quicker test shows in part")
def test_the_next_run_confirms(entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]) -> None:
    blind(checkout)
    settings(checkout, ["MaxAuthTries", "3"])
    assert apply(checkout).returncode != 0
    dry = checkout.apply("scratch", test=True)
    assert dry.returncode == 0
    assert guard(entered).startswith("sshd: "), "a dry run confirms nothing"
    run = apply(checkout)
    assert run.returncode == 0, run.result
    assert run.changed == {}
    assert nothing_is_armed(entered)


@pytest.mark.thorough("what a quicker test shows in part")
def test_confirming_by_hand(entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]) -> None:
    blind(checkout)
    settings(checkout, ["MaxAuthTries", "3"])
    assert apply(checkout).returncode != 0
    done = checkout.salt("mail", "mailhost_access.confirm")
    assert done.returncode == 0, done
    assert "confirmed" in done.stdout
    assert nothing_is_armed(entered)
    again = checkout.salt("mail", "mailhost_access.confirm")
    assert again.returncode != 0
    assert "nothing waits to be confirmed" in again.stdout + again.stderr


@pytest.mark.thorough("what a quicker test shows in part")
def test_only_a_login_by_the_new_way_confirms(entered: Host, checkout: Checkout) -> None:
    """sshd moves to a port that a firewall drops: the old one is still there, and a login by it proves nothing."""
    drop(entered, 2288)
    scratch(checkout, "mailhost_sshd.on_port", port=2288, admin=ADMIN)
    run = apply(checkout)
    assert run.returncode != 0
    assert "sshd on port 2288 too" in guard(entered)
    for attempt in (apply(checkout), checkout.apply("access.admin")):
        assert attempt.returncode != 0
        assert "not by the new way" in str(attempt.result)
    assert admin_gets_in(entered)
    timer_fires(entered)
    assert nothing_is_armed(entered)
    assert (
        entered.run(["sshd", "-T"]).stdout.count("\nport ") + entered.run(["sshd", "-T"]).stdout.startswith("port ")
        == 1
    )
    assert admin_gets_in(entered)


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_moved_port_is_found_by_the_next_run(entered: Host, checkout: Checkout) -> None:
    scratch(checkout, "mailhost_sshd.on_port", port=2288, admin=ADMIN)
    run = apply(checkout)
    assert run.returncode == 0, run.result
    assert admin_gets_in(entered, 2288)
    assert not admin_gets_in(entered, 22)
    again = apply(checkout)
    assert again.changed == {}
    assert ":2288 (public)" in again.stderr


def test_a_reboot_before_the_confirmation_takes_it_back(
    entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]
) -> None:
    blind(checkout)
    settings(checkout, ["MaxAuthTries", "3"])
    assert apply(checkout).returncode != 0
    entered.reboot()
    assert guard(entered).startswith("sshd: "), "armed over the reboot"
    assert entered.run(["systemctl", "is-active", "mailhost-guard.timer"]).stdout.strip() == "active"
    timer_fires(entered)
    assert "maxauthtries 6" in entered.run(["sshd", "-T"]).stdout
    assert admin_gets_in(entered)


def test_a_workstation_that_dies_in_the_middle_locks_nobody_out(entered: Host, checkout: Checkout) -> None:
    settings(checkout, ["MaxAuthTries", "3"])
    process = checkout.start("mail", "state.apply", "scratch")
    wait_until_armed(entered)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    settle(entered, checkout)


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_connection_that_dies_in_the_middle_locks_nobody_out(entered: Host, checkout: Checkout) -> None:
    """The network is gone for a while once the change is armed: neither the run nor its login get through."""
    settings(checkout, ["MaxAuthTries", "3"])
    process = checkout.start("mail", "state.apply", "scratch")
    wait_until_armed(entered)
    drop(entered, 22)
    process.communicate(timeout=180)
    assert process.returncode != 0
    drop(entered, 22, "-D")
    settle(entered, checkout)


def wait_until_armed(host: Host) -> None:
    until = time.monotonic() + 60
    while host.run(["test", "-e", "/var/lib/mailhost/guard/armed.json"], check=False).returncode:
        assert time.monotonic() < until, "nothing was ever armed"
        time.sleep(0.05)


def settle(host: Host, checkout: Checkout) -> None:
    """Whatever happened: the admin gets in, the tree can be applied, and then nothing changes.

    What the host is still at may restart sshd at any moment, which nobody answers for then.
    """
    until = time.monotonic() + 90
    while not admin_gets_in(host):
        assert time.monotonic() < until
        time.sleep(1)
    while (run := apply(checkout)).returncode and re.search("another run is|connection refused", str(run.result)):
        assert time.monotonic() < until
        time.sleep(2)
    assert run.returncode == 0, run.result
    assert nothing_is_armed(host)
    assert apply(checkout).changed == {}
    assert admin_gets_in(host)


@pytest.mark.shown_by("0")
@pytest.mark.parametrize("seed", range(10))
def test_a_power_cut_at_any_moment_locks_nobody_out(entered: Host, checkout: Checkout, seed: int) -> None:
    settings(checkout, ["MaxAuthTries", "3"])
    process = checkout.start("mail", "state.apply", "scratch")
    moment = random.Random(seed).uniform(0.2, 5.0)
    time.sleep(moment)
    entered.power_cut()
    process.communicate(timeout=120)
    entered.boot()
    settle(entered, checkout)


def test_a_second_run_while_armed_changes_nothing_it_cannot_take_back(
    entered: Host, checkout: Checkout, blind: Callable[[Checkout], None]
) -> None:
    blind(checkout)
    drop(entered, 2288)
    scratch(checkout, "mailhost_sshd.on_port", port=2288, admin=ADMIN)
    assert apply(checkout).returncode != 0
    entered.run(["chmod", "0444", "/etc/sudoers.d/90-nopasswd-sudo"])
    second = checkout.apply("access.sudo")
    assert second.returncode != 0
    assert second.changed == {}
    mode = entered.run(["stat", "-c", "%a", "/etc/sudoers.d/90-nopasswd-sudo"]).stdout.strip()
    assert mode == "444"
    timer_fires(entered)
    assert checkout.apply("access.sudo").returncode == 0


def test_two_runs_at_once_are_one(entered: Host, checkout: Checkout) -> None:
    settings(checkout, ["MaxAuthTries", "3"])
    runs = [checkout.start("mail", "state.apply", "scratch", "--out=json") for _ in range(2)]
    results = [Checkout.finish(process, time.monotonic()) for process in runs]
    assert any(result.returncode == 0 for result in results), results
    settle(entered, checkout)


# The firewall.


def firewall(checkout: Checkout) -> None:
    """Write a state file that switches the firewall on after the access tasks, and nothing else."""
    (checkout.directory / "salt/scratch.sls").write_text(
        """#!py
import mailhost_firewall
from mailhost_sls import state

def run():
    return {
        "include": ["access.ssh_proven"],
        "ufw is there": state("mailhost_pkg.installed", packages=["ufw"], require=[{"sls": "access.ssh_proven"}]),
        "scratch": state(
            "mailhost_firewall.declared",
            admin=__pillar__["access"]["admin"]["name"],
            require=[{"mailhost_pkg": "ufw is there"}],
            **mailhost_firewall.declared(__pillar__),
        ),
    }
"""
    )


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_firewall_with_the_ssh_rule_is_confirmed_by_the_run_itself(entered: Host, checkout: Checkout) -> None:
    """What the next test takes away from it is what it needs."""
    firewall(checkout)
    run = apply(checkout)
    assert run.returncode == 0, run.result
    assert "the firewall: confirmed by a new login" in run.stderr
    assert "Status: active" in entered.run(["ufw", "status"]).stdout
    assert apply(checkout).changed == {}
    assert nothing_is_armed(entered)
    assert admin_gets_in(entered)


@pytest.mark.shown_by("")
@pytest.mark.parametrize("rebooted", [False, True], ids=["", "reboot in between"])
def test_a_firewall_without_the_ssh_rule_goes_back(entered: Host, checkout: Checkout, *, rebooted: bool) -> None:
    """As if the tree did not see where sshd listens: the run's own connection lives on, and nobody else gets in."""
    firewall(checkout)
    plan = checkout.directory / "_utils/mailhost_firewall.py"
    text = plan.read_text()
    assert '    ports = public_ports(seen["ssh"], wanted["networks"])\n' in text
    plan.write_text(text.replace('    ports = public_ports(seen["ssh"], wanted["networks"])\n', "    ports = []\n"))
    run = apply(checkout)
    assert run.returncode != 0
    assert "the firewall: it goes back at" in run["scratch"].comment
    assert "Status: active" in entered.run(["ufw", "status"]).stdout
    assert not admin_gets_in(entered)
    if rebooted:
        entered.reboot(port=None)
        assert not admin_gets_in(entered)
    timer_fires(entered)
    assert entered.run(["ufw", "status"]).stdout == "Status: inactive\n"
    assert admin_gets_in(entered)
    assert nothing_is_armed(entered)
    plan.write_text(text)
    settle(entered, checkout)


# WireGuard.


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_peer_with_the_wrong_key_moves_nothing(entered: Host, checkout: Checkout, mail_lab: Lab) -> None:
    """The operator's client is up and calls, but its key is not the one in the pillar: there is no handshake."""
    peer, other = Peer(mail_lab, "stranger"), tools.run(["wg", "genkey"]).stdout
    known = tools.run(["wg", "pubkey"], input=other).stdout.strip()
    pillar = {
        **checkout.good_pillar(entered),
        "hardening": QUICK,
        "vpn": {"peers": {"stranger": {"public_key": known, "addresses": ["10.100.0.2"]}}},
    }
    checkout.pillar(pillar)
    assert checkout.apply("vpn.tunnel").returncode == 0
    configuration = checkout.salt("mail", "mailhost_vpn.peer_config", "stranger").stdout
    assert PLACEHOLDER in configuration
    peer.connect(configuration, wait=0)
    try:
        stopped = checkout.apply("ssh.vpn_only")
        assert stopped.returncode != 0
        bound = "sshd: bound to the VPN addresses"
        assert set(stopped.failed) <= {bound, "1.3.2 is proven", "1.3.4 is proven"}, stopped.failed
        assert "no peer has shaken hands on wg0" in stopped.failed[bound]
        assert "armed" not in stopped.stderr
        assert peer.handshake() == 0
        assert peer.namespace.run(["wg", "show", peer.interface, "transfer"]).stdout.split()[2] != "0", "it calls"
        assert nothing_is_armed(entered)
        assert admin_gets_in(entered, 2288)
        # The right key in the pillar, and the same command does it.
        checkout.pillar({**pillar, "vpn": {"peers": peer.pillar()}})
        # The host's key has stayed; the client's own configuration is right as it is.
        moved = checkout.apply("ssh.vpn_only", inside=peer.namespace)
        assert moved.returncode == 0, moved.result
        assert moved.marks["1.3.4"] == "[x]"
        assert not admin_gets_in(entered, 2288)
        login = entered.ssh_command(ADMIN, 2288, "10.100.0.25")
        assert peer.namespace.run([*login, "sudo", "-n", "true"], check=False).returncode == 0
    finally:
        peer.disconnect()
