"""The same `salt-ssh mail` finds its way in, says which it took, and lets nobody else be taken for the host."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from labkit import Host, Lab
from labkit.checkout import Checkout, Result

pytestmark = pytest.mark.lab

KEY_CHANGED = "its host key is not the one known: if you reinstalled the host, remove its line from .salt/known_hosts"


def ping(checkout: Checkout, target: str = "mail") -> Result:
    """Run the cheapest thing that goes all the way to a host."""
    return checkout.salt(target, "test.ping", "--out=json")


def vpn(checkout: Checkout, host: Host, address: str) -> None:
    """Let an address be the host's in the VPN, with sshd's port 22 as it is in the lab before the VPN tasks."""
    checkout.pillar({**checkout.good_pillar(host), "ssh": {"port": 22}, "vpn": {"address": f"{address}/24"}})


def silent(host: Host) -> str:
    """Return an address of the lab's network that nobody has."""
    return host.ipv4.rpartition(".")[0] + ".250"


def test_admin_after_root(fresh: Host, checkout: Checkout) -> None:
    assert f"mail: dev, by root@{fresh.ipv4}:22 (public)" in ping(checkout).stderr
    assert checkout.apply("access.ssh_proven").returncode == 0
    assert f"mail: dev, by phalkonadmin@{fresh.ipv4}:22 (public)" in ping(checkout).stderr


def test_vpn_before_public(entered: Host, checkout: Checkout) -> None:
    checkout.roster({"mail": checkout.entry(entered, host=entered.ipv6)})
    vpn(checkout, entered, entered.ipv4)
    result = ping(checkout)
    assert (result.returncode, result.data()) == (0, {"mail": True}), result
    assert result.stderr == f"mail: dev, by phalkonadmin@{entered.ipv4}:22 (VPN)\n"


def test_public_when_the_vpn_lets_nobody_in_yet(fresh: Host, checkout: Checkout) -> None:
    """sshd answers at the VPN's address, but there is no admin yet."""
    checkout.roster({"mail": checkout.entry(fresh, host=fresh.ipv6)})
    vpn(checkout, fresh, fresh.ipv4)
    result = ping(checkout)
    assert result.stderr == f"mail: dev, by root@[{fresh.ipv6}]:22 (public)\n", result


@pytest.mark.thorough("what a quicker test shows in part")
def test_dead_vpn_costs_little(entered: Host, checkout: Checkout) -> None:
    quick = min(ping(checkout).seconds for _ in range(2))
    vpn(checkout, entered, silent(entered))
    result = ping(checkout)
    assert result.stderr == f"mail: dev, by phalkonadmin@{entered.ipv4}:22 (public)\n", result
    assert result.seconds < quick + 5, (result.seconds, quick)


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_way_that_works_is_tried_first_the_next_time(entered: Host, checkout: Checkout) -> None:
    """Logins that fail fill the host's log and get the operator banned."""
    for _ in range(2):
        ping(checkout)

    def logins() -> int:
        said = entered.run(["journalctl", "-q", "-t", "sshd-session", "-t", "sshd"]).stdout
        return len(re.findall("Connection from|Accepted", said))

    before = logins()
    ping(checkout)
    assert logins() - before == 1
    assert "Failed" not in entered.run(["journalctl", "-q", "-b", "-t", "sshd-session"]).stdout


def test_ipv6_only(entered: Host, checkout: Checkout) -> None:
    checkout.roster({"mail": checkout.entry(entered, host=entered.ipv6)})
    run = checkout.apply("access.ssh_proven", test=True)
    assert run.returncode == 0, run.result
    assert f"mail: dev, by phalkonadmin@[{entered.ipv6}]:22 (public)" in run.stderr


def test_another_host_s_key_is_refused(entered: Host, checkout: Checkout) -> None:
    assert ping(checkout).returncode == 0
    entered.run(["sh", "-euc", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh"])
    result = ping(checkout)
    assert result.returncode != 0
    assert KEY_CHANGED in result.stderr, result
    (checkout.directory / ".salt/known_hosts").unlink()
    assert ping(checkout).returncode == 0


def test_a_pinned_host_key(entered: Host, checkout: Checkout, tmp_path: Path) -> None:
    checkout.roster({"mail": checkout.entry(entered, host_key=entered.host_key)})
    assert ping(checkout).returncode == 0
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    wrong = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    checkout.roster({"mail": checkout.entry(entered, host_key=wrong)})
    result = ping(checkout)
    assert result.returncode != 0
    assert "its host key is not the" in result.stderr, result


@pytest.mark.thorough("what a quicker test shows in part")
def test_one_dead_host_of_several(mail_lab: Lab, entered: Host, checkout: Checkout) -> None:
    """The others are reached, and the run does not end green."""
    dead = checkout.entry(entered, host=silent(entered))
    checkout.roster({"mail": checkout.entry(entered), "mail-staging": dead})
    result = ping(checkout, "*")
    assert result.data()["mail"] is True, result
    assert result.returncode != 0, result
    assert "mail-staging: no endpoint lets us in" in result.stderr
    assert f"mail: dev, by phalkonadmin@{entered.ipv4}:22 (public)" in result.stderr


def test_two_hosts_at_once(mail_lab: Lab, entered: Host, checkout: Checkout) -> None:
    other = mail_lab.host("other")
    other.boot()
    try:
        checkout.roster({"mail": checkout.entry(entered), "other": checkout.entry(other)})
        result = ping(checkout, "*")
        assert (result.returncode, result.data()) == (0, {"mail": True, "other": True}), result
        assert ping(checkout, "oth*").data() == {"other": True}
    finally:
        other.power_cut()
