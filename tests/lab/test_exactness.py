"""A dry run says exactly what an apply then changes, whatever the host is like, and touches nothing itself."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout
from labkit.exactness import Exactness

from .conftest import ACCESS, Exact, own_resolvers
from .tampering import Tamper, each

pytestmark = pytest.mark.lab

# What the operator of a host that the admin cannot enter any more does at the provider's console first.
CONSOLE = "rm /etc/ssh/sshd_config.d/00-mailhost-root.conf; systemctl restart ssh;"


KEYS = "/home/phalkonadmin/.ssh"
# What meets in one state, or in none, is spoilt together: a case is four runs.
TAMPERS = [
    Tamper(
        "sudo asks, home and keys anybody's",
        f"{CONSOLE} cd /etc/sudoers.d; sed -i s/NOPASSWD:// 90-nopasswd-sudo; chmod 640 90-nopasswd-sudo;"
        f"chown 1000 90-nopasswd-sudo; gpasswd -d phalkonadmin sudo; chown 1005 /home/phalkonadmin; chmod 777 {KEYS}",
        ("1.2.1", "1.2.3", "1.2.4"),
    ),
    Tamper(
        "sudoers file and keys removed",
        f"{CONSOLE} rm /etc/sudoers.d/90-nopasswd-sudo {KEYS}/authorized_keys",
        ("1.2.1", "1.2.4"),
    ),
    Tamper(
        "sudo and package lists removed",
        f"{CONSOLE} SUDO_FORCE_REMOVE=yes apt-get -qy purge sudo; rm -rf /var/lib/apt/lists/*",
        ("1.2.1",),
    ),
    Tamper(
        "linuxuser is back",
        "useradd -m -s /bin/bash -G sudo linuxuser; touch /var/mail/linuxuser; chown linuxuser /var/mail/linuxuser;"
        "echo '@daily true' | crontab -u linuxuser -; loginctl enable-linger linuxuser;"
        "echo 'linuxuser ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/90-cloud-init-users;"
        "systemd-run -q --uid=linuxuser sleep 100000",
        ("1.2.2", "1.2.7"),
    ),
    Tamper(
        "NOPASSWD here and there",
        "echo '%adm ALL=(ALL:ALL) NOPASSWD: ALL' >>/etc/sudoers;"
        "echo 'phalkonadmin ALL=(ALL) NOPASSWD:ALL' >>/etc/sudoers;"
        "echo 'games ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz-games",
        ("1.2.7",),
    ),
    Tamper(
        "admin's shell, password and keys changed",
        f"usermod -s /bin/sh phalkonadmin; echo phalkonadmin:secret | chpasswd; chmod 755 {KEYS};"
        "echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEv8xVcPYvL3mrHqVTP8cXwCPHTkaPWo7SSMQW6TjTQm mallory"
        f" >>{KEYS}/authorized_keys; chmod 644 {KEYS}/authorized_keys",
        ("1.2.3", "1.2.4"),
    ),
    Tamper(
        "admin's uid moved",
        "groupmod -g 1005 phalkonadmin; usermod -u 1005 phalkonadmin; touch /srv/hers;"
        "chown -R phalkonadmin:phalkonadmin /home/phalkonadmin /srv/hers; chmod 4755 /srv/hers",
        ("1.2.3", "1.2.7"),
    ),
    Tamper(
        "admin's files left behind, root may log in",
        f"{CONSOLE} mkdir -p /var/lib/mailhost; touch /srv/hers; chown 1005:1005 /srv/hers; chmod 4755 /srv/hers;"
        """echo '{"phalkonadmin": {"user": [1005], "group": [1005]}}' >/var/lib/mailhost/uid-move.json""",
        ("1.2.3", "1.2.4"),
    ),
    Tamper("admin's home removed", f"{CONSOLE} rm -r /home/phalkonadmin", ("1.2.3", "1.2.4")),
    Tamper("admin deleted", f"{CONSOLE} userdel -rf phalkonadmin", ("1.2.3", "1.2.4", "1.2.7")),
    Tamper(
        "keys are root's, sudo asks after the include",
        f"{CONSOLE} chown -R root:root {KEYS}; echo 'phalkonadmin ALL=(ALL) ALL' >>/etc/sudoers",
        ("1.2.1", "1.2.4"),
    ),
]  # fmt: skip


def test_pristine_host(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    network = {"fqdn": "mail.example.org", "resolvers": own_resolvers(fresh)}
    checkout.pillar({**checkout.good_pillar(fresh), "network": network})
    found = exact("pristine", fresh, checkout)
    assert "lookups are answered by the declared resolvers" in found.real.changed
    # These wait for somebody to use the tunnel, and nobody is declared.
    waiting = {"1.3.2", "1.3.4", "1.5.1"}
    assert {task: mark for task, mark in found.again.marks.items() if mark != "[x]"} == dict.fromkeys(waiting, "[~]")


def test_converged_host(converged: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("converged", converged, checkout)
    assert not found.made


@pytest.mark.thorough("what a quicker test shows in part")
def test_another_address_in_the_vpn(converged: Host, checkout: Checkout, exact: Exact) -> None:
    vpn = {"address": "10.100.0.26/24", "address6": "fd00:100::26/64"}
    checkout.pillar({**checkout.good_pillar(converged), "vpn": vpn})
    found = exact("another address in the VPN", converged, checkout)
    assert "Database: what was tried is reported" in found.real.changed
    assert "10.100.0.26:5432" in converged.run(["ss", "-Hltn"]).stdout


@pytest.mark.shown_by(
    "sudo-and-package-lists-removed", "linuxuser-is-back", "NOPASSWD-here-and-there", "admin's-uid-moved"
)
@each(TAMPERS)
def test_tampered_host(entered: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    entered.run(["sh", "-euc", tamper.script])
    found = exact(tamper.id, entered, checkout, *ACCESS)
    assert found.made
    assert _open(found, "dry") >= set(tamper.expected)
    assert not _open(found, "again") & set(tamper.expected)
    assert entered.run(["runuser", "-u", "phalkonadmin", "--", "sudo", "-n", "id", "-u"]).stdout == "0\n"
    if "/srv/hers" in tamper.script:
        assert entered.run(["stat", "-c", "%u:%g %a", "/srv/hers"]).stdout == "1000:1000 4755\n"


def _open(found: Exactness, run: str) -> set[str]:
    """Return the tasks that the tracker shows as not done in one of the case's runs."""
    return {task for task, mark in getattr(found, run).marks.items() if mark != "[x]"}
