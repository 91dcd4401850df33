"""A host that is there already: its key, and what is said of it before anything is done."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mailhost_adopt
import mailhost_pillar
from compiled import GOOD
from unit.test_vps import TRIXIE

PILLAR = mailhost_pillar.plain(mailhost_pillar.parse(GOOD))
# Of ssh-keyscan -t ed25519,ecdsa,rsa of OpenSSH 10, shortened.
SCANNED = """# 203.0.113.5:22 SSH-2.0-OpenSSH_10.0p2 Debian-7
203.0.113.5 ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7
203.0.113.5 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMpo++bZVnJcF7lkWu12z2YGfYSkpwlHFmNGcDeAWvDO
"""
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7"
ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMpo++bZVnJcF7lkWu12z2YGfYSkpwlHFmNGcDeAWvDO"
# As ssh-keygen -lf prints it of the same key.
PRINT = "SHA256:XBBaEz7FUiNzVSVZsOl++k/72Um/4aB+47GrW7h+JfY"
SOCKETS = """udp   UNCONN 0      0           127.0.0.54:53        0.0.0.0:*    users:(("systemd-resolve",pid=9,fd=1))
udp   UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=9,fd=1))
udp   UNCONN 0      0      203.0.113.5%enp1s0:68   0.0.0.0:*    users:(("systemd-network",pid=8,fd=2))
tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=1,fd=3))
tcp   LISTEN 0      128             [::]:22           [::]:*    users:(("sshd",pid=1,fd=4))
tcp   LISTEN 0      20         127.0.0.1:25        0.0.0.0:*    users:(("exim4",pid=5,fd=4))
tcp   LISTEN 0      511                *:443             *:*    users:(("nginx",pid=6,fd=4))
tcp   LISTEN 0      511          0.0.0.0:8080      0.0.0.0:*    users:(("java",pid=7,fd=4))
tcp   LISTEN 0      511             [::]:8080         [::]:*    users:(("java",pid=7,fd=5))
tcp   LISTEN 0      244            [::1]:5432         [::]:*    users:(("postgres",pid=4,fd=5))
"""


def found(**changed: Any) -> dict[str, Any]:
    """Return the facts of a pristine VPS with some of what the probe prints changed."""
    printed = {
        "release": TRIXIE,
        "meminfo": "MemTotal:        3991212 kB\nMemFree: 1 kB\n",
        "cpus": 2,
        "disk": [79 * 10**9, 70 * 10**9],
        "virtual": "kvm",
        "users": {"root": ["A"], "linuxuser": []},
        "uids": {"0": "root", "1000": "linuxuser"},
        "sudoers": ["README"],
        "packages": ["sudo", "openssh-server"],
        "sshd": {"subsystem": "sftp /usr/lib/openssh/sftp-server"},
        "sockets": "",
        "ufw": "",
        "ufw_rules": 0,
        "units": "ssh.service loaded active running OpenBSD Secure Shell server\n",
        "containers": 0,
        "wireguard": [],
        "filled": [],
        "directories": {},
        **changed,
    }
    return mailhost_adopt.facts(json.dumps(printed))


# --- its key


def test_keys_and_fingerprints() -> None:
    assert mailhost_adopt.keys(SCANNED) == [ED, RSA]
    assert mailhost_adopt.fingerprint(ED) == PRINT
    assert mailhost_adopt.keys("") == []


@pytest.mark.parametrize("typed", [PRINT, PRINT.removeprefix("SHA256:"), PRINT + "="])
def test_the_key_of_the_fingerprint_that_was_typed_is_pinned(typed: str) -> None:
    assert mailhost_adopt.pinned("mail", "203.0.113.5", [RSA, ED], None, typed) == ED


def test_a_key_that_is_known_needs_no_fingerprint() -> None:
    assert mailhost_adopt.pinned("mail", "203.0.113.5", [ED, RSA], RSA, "") == RSA


@pytest.mark.parametrize(
    ("shown", "known", "typed", "said"),
    [
        ([], None, PRINT, "203.0.113.5: no SSH server answers with a key that can be pinned"),
        ([RSA], None, PRINT, "and not SHA256:XBB"),
        ([RSA], ED, "", f"and the roster knows mail by {PRINT}"),
        ([ED, RSA], None, "", f"run again with FINGERPRINT={PRINT}"),
        ([ED, RSA], ED, "SHA256:nonsense", "and not SHA256:nonsense"),
    ],
)
def test_nobody_is_taken_for_the_host(shown: list[str], known: str | None, typed: str, said: str) -> None:
    with pytest.raises(mailhost_adopt.Unusable) as error:
        mailhost_adopt.pinned("mail", "203.0.113.5", shown, known, typed)
    assert said in str(error.value)


def test_addresses() -> None:
    assert mailhost_adopt.addresses("203.0.113.5, 2001:DB8::5") == ["203.0.113.5", "2001:db8::5"]
    for typed, said in (("", "give the host's address"), ("mail.example.org", "is not an IP address")):
        with pytest.raises(mailhost_adopt.Unusable, match=said):
            mailhost_adopt.addresses(typed)


# --- what it is


def test_a_pristine_host() -> None:
    assert mailhost_adopt.refusals(PILLAR, found()) == []
    assert mailhost_adopt.kept(found()) == []
    assert mailhost_adopt.changes(PILLAR, found()) == [
        "account linuxuser is removed with its home (1.2.2, access.default_user)",
        "root no longer logs in by SSH (1.2.4)",
        "sshd moves to port 2288, in the end on the VPN only (1.3.1, 1.3.4)",
        "ufw is switched on, and lets in what firewall.rules declares (1.5.1)",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"release": TRIXIE.replace("13", "12")}, "it is Debian GNU/Linux 12 (trixie); the tree is for Debian 13"),
        ({"virtual": "lxc"}, "it is a container (lxc) and has no kernel of its own for WireGuard and firewall"),
        ({"disk": [79 * 10**9, 3 * 10**9]}, "3.0 GB of its disk are free, and 5 are needed"),
        ({"sshd": {}}, "its sshd has no subsystem sftp, by which Salt sends files"),
        ({"uids": {"1000": "ada"}}, "uid 1000, wanted for phalkonadmin, is ada's: set access.admin.uid"),
        ({"units": "firewalld.service loaded active running x\n"}, "firewalld is active and would fight with ufw"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], said: str) -> None:
    assert mailhost_adopt.refusals(PILLAR, found(**changed)) == [said]
    assert f"The tree refuses it:\n- {said}\n" in mailhost_adopt.report(PILLAR, found(**changed))


def test_what_listens_to_others() -> None:
    lines = mailhost_adopt.changes(PILLAR, found(sockets=SOCKETS))
    assert [line for line in lines if line.startswith("port")] == [
        "port 443/tcp (nginx) is open to the VPN only (1.5.1)",
        "port 8080/tcp (java) is closed to everybody, but for rules of ufw that stay (1.5.1)",
    ]


@pytest.mark.parametrize(
    ("prune", "said"), [(False, "kept and reported (firewall.prune removes them)"), (True, "removed")]
)
def test_a_firewall_that_is_on(prune: bool, said: str) -> None:
    pillar = {**PILLAR, "firewall": {**PILLAR["firewall"], "prune": prune}}
    lines = mailhost_adopt.changes(pillar, found(ufw="# x\nENABLED=yes\n", ufw_rules=4))
    assert f"ufw is on with 4 rules: those that nobody declared are {said} (1.5.1)" in lines


def test_people_and_their_rights() -> None:
    named = PILLAR["access"]["admin"]["ssh_keys"][0].split()[1]
    users = {"root": ["A"], "phalkonadmin": [named, "B", "C"], "bob": ["D"], "ada": []}
    lines = mailhost_adopt.changes(PILLAR, found(users=users, sudoers=["README", "90-nopasswd-sudo", "bob"]))
    assert lines[:-1] == [
        "ada, bob can no longer log in by SSH: only phalkonadmin can (1.3.1)",
        "2 keys of phalkonadmin that access.admin.ssh_keys does not name are removed (1.2.4)",
        "root no longer logs in by SSH (1.2.4)",
        "sshd moves to port 2288, in the end on the VPN only (1.3.1, 1.3.4)",
        "of /etc/sudoers.d, what no package brought is put away: bob (1.2.7)",
    ]


def test_directories_of_mail_and_databases() -> None:
    mail = {"/var/mail/vmail": {"access": "8:8 0755", "empty": False}}
    assert "/var/mail/vmail, 8:8 0755, becomes 5000:5000 0750 (1.4.2)" in mailhost_adopt.changes(
        PILLAR, found(directories=mail)
    )
    database = {"/opt/postgres/data": {"access": "4711:0 0700", "empty": False}}
    (said,) = mailhost_adopt.stops(PILLAR, found(directories=database))
    assert said.startswith("1.4.2: /opt/postgres/data: a database of uid 4711 is in it")
    assert f"The tree will stop at:\n- {said}\n" in mailhost_adopt.report(PILLAR, found(directories=database))


def test_a_finished_host() -> None:
    """What is so already is not announced."""
    sshd = {"subsystem": "sftp x", "permitrootlogin": "no", "port": "2288", "allowusers": "phalkonadmin"}
    users = {"root": [], "phalkonadmin": [PILLAR["access"]["admin"]["ssh_keys"][0].split()[1]], "bob": ["D"]}
    ours = ["README", "80-hardening", "90-nopasswd-sudo"]
    lines = mailhost_adopt.changes(PILLAR, found(sshd=sshd, users=users, sudoers=ours, ufw="ENABLED=yes", ufw_rules=21))
    assert [line.partition(" ")[0] for line in lines] == ["ufw"]


def test_what_stays() -> None:
    there = found(
        filled=["/opt/postgres/data"], packages=["docker-ce", "postfix"], containers=2, wireguard=["/etc/wireguard/wg0.conf"]
    )  # fmt: skip
    assert mailhost_adopt.kept(there) == [
        "/opt/postgres/data is not empty: what is in it stays",
        "installed: Docker from its own repository, Postfix",
        "2 containers of Docker; ports they publish come under the firewall (1.5.1)",
        "/etc/wireguard/wg0.conf exists",
    ]


def test_what_does_not_go_with_the_tree_s_packages_is_said() -> None:
    assert mailhost_adopt.stops(PILLAR, found(packages=["chrony", "iptables-persistent", "postfix"])) == [
        "chrony is in the way of systemd-timesyncd (1.3.1, control V10): remove it",
        "iptables-persistent is in the way of ufw (1.5.1): remove it",
    ]


def test_a_host_that_says_nothing() -> None:
    with pytest.raises(mailhost_adopt.Unusable, match="is python3 installed there"):
        mailhost_adopt.facts("")


def test_the_probe_is_python_that_writes_nothing() -> None:
    """It is compiled here, and opens nothing for writing: what it runs are three programs that only look."""
    compile(mailhost_adopt.PROBE, "probe", "exec")
    for word in ("write", "open(", "unlink", "mkdir", "remove", "chmod", "shell=True"):
        assert word not in mailhost_adopt.PROBE


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, False),
        ({"host": ["203.0.113.5"]}, False),
        ({"host": ["198.51.100.9"]}, False),
        ({"host_key": RSA}, False),
        ({"host": ["198.51.100.9"], "host_key": RSA}, True),
        ({"environment": "staging"}, True),
    ],
)
def test_another_host_by_the_same_name_is_not_taken_in(made: dict[str, Any], said: bool) -> None:
    entry = mailhost_adopt.entry(["203.0.113.5", "2001:db8::5"], "prod", ED)
    assert mailhost_adopt.another({**entry, **made} if made else {}, entry) is said
