"""`make adopt`: a host that is there already is looked at, compared and taken in; nothing is written on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from labkit import Host
from labkit.checkout import Checkout, Result

pytestmark = pytest.mark.lab

# What a login itself leaves behind, and a running system.
VOLATILE = ("/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd", "/var/cache", "/dev", "/proc", "/sys")
FOREIGN = """
apt-get -qq update
apt-get -qqy --no-install-recommends install ufw >/dev/null 2>&1
ufw allow 22/tcp >/dev/null
ufw allow 8080/tcp >/dev/null
ufw --force enable >/dev/null
mkdir -p /opt/postgres/data /srv/www
echo 17 >/opt/postgres/data/PG_VERSION
chown -R 4711:4711 /opt/postgres/data
useradd -m -u 1001 -s /bin/bash bob
echo 'bob ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/bob
systemd-run -q --unit=oldweb python3 -m http.server 8080 -d /srv/www
systemd-run -q --unit=local python3 -m http.server 9090 --bind 127.0.0.1 -d /srv/www
"""


def fingerprint(host: Host) -> str:
    """Return what the provider's console would show."""
    said = host.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    return said.split()[1]


@pytest.fixture
def desk(fresh: Host, checkout: Checkout) -> Checkout:
    """A checkout whose roster knows nothing but the operator's key."""
    checkout.roster({"mail": {"priv": str(fresh.directory / "id_ed25519")}})
    return checkout


def adopt(desk: Checkout, address: str, printed: str = "", *words: str) -> Result:
    """Do what `make adopt` does."""
    typed = f'pillar={{"typed": ["{address}", "{printed}"]}}'
    return desk.local("state.apply", "adopted", typed, *words, env={"MAILHOST_ENV": "dev"})


def taken_in(desk: Checkout) -> bool:
    """Whether the roster knows the host."""
    return (desk.directory / "etc/salt/roster.d/mail").exists()


def logins(host: Host) -> int:
    """Return how many logins sshd has let in."""
    return host.run(["journalctl", "-q", "-b", "-t", "sshd-session"]).stdout.count("Accepted")


def test_a_fresh_host(fresh: Host, desk: Checkout) -> None:
    """Shown, compared, taken in; then salt-ssh works with the key pinned, and a second time there is nothing to do."""
    addresses = f"{fresh.ipv4},{fresh.ipv6}"
    shown = adopt(desk, addresses)
    assert shown.returncode != 0
    assert f"{fresh.ipv4} shows {fingerprint(fresh)}: compare it with" in shown.stdout
    assert logins(fresh) == 0
    assert not taken_in(desk)

    before = fresh.tree_hash(VOLATILE)
    dry = adopt(desk, addresses, fingerprint(fresh), "test=True")
    assert dry.returncode == 0, dry
    assert not taken_in(desk)
    real = adopt(desk, addresses, fingerprint(fresh))
    assert real.returncode == 0, real
    assert real.stdout == dry.stdout.replace(" (would change)", "")
    assert fresh.tree_hash(VOLATILE) == before
    found = yaml.safe_load((desk.directory / "etc/salt/roster.d/mail").read_text())
    assert found == {"host": [fresh.ipv4, fresh.ipv6], "environment": "dev", "host_key": fresh.host_key}

    again = adopt(desk, addresses)
    assert again.returncode == 0, again
    assert "roster:" not in again.stdout
    ping = desk.salt("mail", "test.ping", "--out=json")
    assert (ping.returncode, ping.data()) == (0, {"mail": True}), ping


def test_a_host_that_is_not_pristine(fresh: Host, desk: Checkout) -> None:
    """What the tree would do to it is said; what is on it stays as it is."""
    fresh.run(["sh", "-euc", FOREIGN])
    before = fresh.tree_hash(VOLATILE)
    run = adopt(desk, fresh.ipv6, fingerprint(fresh))
    assert run.returncode == 0, run
    assert fresh.tree_hash(VOLATILE) == before
    for line in (
        "account linuxuser is removed with its home (1.2.2, access.default_user)",
        "bob can no longer log in by SSH: only phalkonadmin can (1.3.1)",
        "of /etc/sudoers.d, what no package brought is put away: 90-cloud-init-users, bob (1.2.7)",
        "ufw is on with 4 rules: those that nobody declared are kept and reported (firewall.prune "
        "removes them) (1.5.1)",
        "port 8080/tcp (python3) is closed to everybody, but for rules of ufw that stay (1.5.1)",
        "/opt/postgres/data is not empty: what is in it stays",
        "1.4.2: /opt/postgres/data: a database of uid 4711 is in it, and in postgres.image PostgreSQL has uid 999: "
        "the image is of another kind than the one that made it",
    ):
        assert f"    - {line}\n" in run.stdout, run
    assert "9090" not in run.stdout


@pytest.mark.shown_by("debian 12", "no python")
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (
            "sed -i 's/13/12/; s/trixie/bookworm/' /etc/os-release",
            "it is Debian GNU/Linux 12 (bookworm); the tree is for Debian 13",
        ),
        (
            "userdel -r linuxuser 2>/dev/null; useradd -m -u 1000 ada",
            "uid 1000, wanted for phalkonadmin, is ada's: set",
        ),
        (
            "sed -i '/^Subsystem/d' /etc/ssh/sshd_config; systemctl reload ssh",
            "its sshd has no subsystem sftp, by which Salt sends files",
        ),
        ("mv /usr/bin/python3 /usr/bin/python3.away", "is python3 installed there? Salt needs it"),
        ("rm /root/.ssh/authorized_keys", "Permission denied (publickey"),
    ],
    ids=["debian 12", "uid taken", "no sftp", "no python", "no key for root"],
)
def test_a_host_that_the_tree_is_not_for(fresh: Host, desk: Checkout, spoilt: str, said: str) -> None:
    fresh.run(["sh", "-euc", spoilt])
    before = fresh.tree_hash(VOLATILE)
    run = adopt(desk, fresh.ipv4, fingerprint(fresh))
    assert run.returncode != 0
    assert said in run.stdout, run
    assert "Traceback" not in run.stdout + run.stderr
    assert not taken_in(desk)
    assert fresh.tree_hash(VOLATILE) == before


def test_the_tree_touches_nothing_of_another_debian(fresh: Host, checkout: Checkout) -> None:
    """Task 1.1.1 stops the run before the others, however the host came into the roster."""
    fresh.run(["sh", "-euc", "sed -i 's/13/12/; s/trixie/bookworm/' /etc/os-release"])
    kept = (*VOLATILE, "/root")  # where salt-ssh unpacks itself
    before = fresh.tree_hash(kept)
    dry, real = checkout.apply("access.sudo", test=True), checkout.apply("access.sudo")
    for run in (dry, real):
        assert run.returncode != 0
        assert list(run.failed) == ["1.1.1 is proven"]
        assert "the tree is for Debian 13" in run.failed["1.1.1 is proven"]
        assert run.changed == {}
    assert fresh.tree_hash(kept) == before


def test_somebody_else_at_the_address(fresh: Host, desk: Checkout, tmp_path: Path) -> None:
    """Another fingerprint than the one compared: no login is tried, whether it was typed or is known already."""
    run = adopt(desk, fresh.ipv4, "SHA256:XBBaEz7FUiNzVSVZsOl++k/72Um/4aB+47GrW7h+JfY")
    assert "either the fingerprint is another host's, or somebody else answers there" in run.stdout, run
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    desk.roster({"mail": {"priv": str(fresh.directory / "id_ed25519"), "host_key": other}})
    run = adopt(desk, fresh.ipv4)
    assert "if the host was installed anew, give its FINGERPRINT" in run.stdout, run
    assert logins(fresh) == 0
    assert not taken_in(desk)


def test_nobody_at_the_address(desk: Checkout, fresh: Host) -> None:
    run = adopt(desk, f"{fresh.ipv4.rpartition('.')[0]}.250")
    assert "no SSH server answers there" in run.stdout, run
    run = adopt(desk, "mail.example.org")
    assert "HOST: 'mail.example.org' is not an IP address" in run.stdout, run
