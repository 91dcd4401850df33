"""A dry run says exactly what an apply then changes, whatever the host is like, and touches nothing itself."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout
from labkit.exactness import Exactness

from .conftest import ACCESS, Exact
from .tampering import Tamper, each

pytestmark = pytest.mark.lab

# What the operator of a host that the admin cannot enter any more does at the provider's console first.
CONSOLE = "rm /etc/ssh/sshd_config.d/00-mailhost-root.conf; systemctl restart ssh;"


TAMPERS = [
    Tamper("sudoers file asks again", f"{CONSOLE} sed -i s/NOPASSWD:// /etc/sudoers.d/90-nopasswd-sudo", ("1.2.1",)),
    Tamper("sudoers file 0640", "chmod 640 /etc/sudoers.d/90-nopasswd-sudo", ("1.2.1",)),
    Tamper("sudoers file another's", f"{CONSOLE} chown 1000 /etc/sudoers.d/90-nopasswd-sudo", ("1.2.1",)),
    Tamper("sudoers file removed", f"{CONSOLE} rm /etc/sudoers.d/90-nopasswd-sudo", ("1.2.1",)),
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
    Tamper("admin's shell changed", "usermod -s /bin/sh phalkonadmin", ("1.2.3",)),
    Tamper("admin not in group sudo", f"{CONSOLE} gpasswd -d phalkonadmin sudo", ("1.2.3",)),
    Tamper(
        "admin's uid moved",
        "groupmod -g 1005 phalkonadmin; usermod -u 1005 phalkonadmin; touch /srv/hers;"
        "chown -R phalkonadmin:phalkonadmin /home/phalkonadmin /srv/hers; chmod 4755 /srv/hers",
        ("1.2.3", "1.2.7"),
    ),
    Tamper(
        "admin's files left behind",
        "mkdir -p /var/lib/mailhost; touch /srv/hers; chown 1005:1005 /srv/hers; chmod 4755 /srv/hers;"
        """echo '{"phalkonadmin": {"user": [1005], "group": [1005]}}' >/var/lib/mailhost/uid-move.json""",
        ("1.2.3",),
    ),
    Tamper("admin's home another's", f"{CONSOLE} chown 1005 /home/phalkonadmin", ("1.2.3",)),
    Tamper("admin's password set", "echo phalkonadmin:secret | chpasswd", ("1.2.3",)),
    Tamper("admin's home removed", f"{CONSOLE} rm -r /home/phalkonadmin", ("1.2.3", "1.2.4")),
    Tamper("admin deleted", f"{CONSOLE} userdel -rf phalkonadmin", ("1.2.3", "1.2.4", "1.2.7")),
    Tamper(
        "stray key",
        "echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEv8xVcPYvL3mrHqVTP8cXwCPHTkaPWo7SSMQW6TjTQm mallory"
        " >>/home/phalkonadmin/.ssh/authorized_keys",
        ("1.2.4",),
    ),
    Tamper("keys removed", f"{CONSOLE} rm /home/phalkonadmin/.ssh/authorized_keys", ("1.2.4",)),
    Tamper("keys' modes", "cd /home/phalkonadmin/.ssh; chmod 755 .; chmod 644 authorized_keys", ("1.2.4",)),
    Tamper("keys writable by all", f"{CONSOLE} chmod 777 /home/phalkonadmin/.ssh", ("1.2.4",)),
    Tamper("keys are root's", f"{CONSOLE} chown -R root:root /home/phalkonadmin/.ssh", ("1.2.4",)),
    Tamper("root may log in", CONSOLE, ("1.2.4",)),
    Tamper("NOPASSWD in sudoers", "echo '%adm ALL=(ALL:ALL) NOPASSWD: ALL' >>/etc/sudoers", ("1.2.7",)),
    Tamper("admin's NOPASSWD in sudoers", "echo 'phalkonadmin ALL=(ALL) NOPASSWD:ALL' >>/etc/sudoers", ("1.2.7",)),
    Tamper(
        "admin asked after the include",
        f"{CONSOLE} echo 'phalkonadmin ALL=(ALL) ALL' >>/etc/sudoers",
        ("1.2.1",),
    ),
    Tamper("stray in sudoers.d", "echo 'games ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz-games", ("1.2.7",)),
]  # fmt: skip


def test_pristine_host(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("pristine", fresh, checkout)
    assert found.made


def test_converged_host(converged: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("converged", converged, checkout)
    assert not found.made


@each(TAMPERS)
def test_tampered_host(entered: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    entered.run(["sh", "-euc", tamper.script])
    found = exact(tamper.id, entered, checkout, *ACCESS)
    assert found.made
    assert _open(found, "dry") >= set(tamper.expected)
    assert not _open(found, "again") & set(tamper.expected)
    assert entered.run(["runuser", "-u", "phalkonadmin", "--", "sudo", "-n", "id", "-u"]).stdout == "0\n"
    if tamper.id in ("admin's uid moved", "admin's files left behind"):
        assert entered.run(["stat", "-c", "%u:%g %a", "/srv/hers"]).stdout == "1000:1000 4755\n"


def _open(found: Exactness, run: str) -> set[str]:
    """Return the tasks that the tracker shows as not done in one of the case's runs."""
    return {task for task, mark in getattr(found, run).marks.items() if mark != "[x]"}
