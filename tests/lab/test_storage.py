"""Directories of mail and databases: exact, nothing inside is touched; quotas are refused where there are none."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout

from .conftest import Exact
from .tampering import Tamper, changes, each

pytestmark = pytest.mark.lab

OWNED = "directories of mail and databases: whose they are"
THERE = "directories of mail and databases"
# Somebody's mail and database, with owners and modes of their own.
CONTENT = """
install -D -o 1234 -g 1234 -m 640 /dev/null /var/mail/vmail/example.org/ada/new/1
install -D -o 70 -g 70 -m 604 /dev/null /opt/postgres/data/base/1/2
"""
# What is theirs; a database that runs there writes its own files all the time.
INSIDE = "find /var/mail/vmail/* /opt/postgres/data/base/1/2 -printf '%p %U:%G %m %T@ %s\\n' 2>/dev/null | sort"


TAMPERS = [
    Tamper("owners and modes, with content of others",
           f"{CONTENT} chown root /var/mail/vmail; chmod 755 /opt/postgres/data; chgrp 999 /opt/postgres/backups",
           tuple(f"{OWNED}: {path}" for path in ("/var/mail/vmail", "/opt/postgres/data", "/opt/postgres/backups"))),
    Tamper("vmail and a directory removed, quota tool changed",
           "userdel vmail; rm -r /opt/postgres/wal_archive;"
           "echo >>/usr/local/sbin/mailhost-quota; chmod 700 /usr/local/sbin/mailhost-quota",
           (f"{THERE}: /opt/postgres/wal_archive", f"{OWNED}: /opt/postgres/wal_archive", "vmail exists: user",
            "mailhost-quota: content", "mailhost-quota: mode")),
]  # fmt: skip


@pytest.mark.shown_by("owners-and-modes,-with-content-of-others")
@each(TAMPERS)
def test_tampered_host(converged: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    converged.run(["sh", "-euc", tamper.script])
    before = converged.run(["sh", "-c", INSIDE]).stdout
    found = exact(f"storage: {tamper.id}", converged, checkout, "storage.quota")
    assert changes(found.real) == set(tamper.expected)
    assert converged.run(["sh", "-c", INSIDE]).stdout == before
    assert {found.again.marks[task] for task in ("1.4.1", "1.4.2", "1.4.3")} == {"[x]"}


@pytest.mark.shown_by("usermod -u 4999 vmail-vmail exists-vmail is there with uid 4999")
@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("usermod -u 4999 vmail", "vmail exists", "vmail is there with uid 4999"),
        ("useradd -r -u 999 -g nogroup eve", "vmail exists", "PostgreSQL has uid 999 in it, which is eve's here"),
        ("rm -r /var/mail/queue; ln -s /srv /var/mail/queue", THERE, "/var/mail/queue: is a link, not a directory"),
        (f"{CONTENT} chown 70 /opt/postgres/data", OWNED, "a database of uid 70 is in it"),
    ],
)
def test_what_clashes_is_explained_before_anything_changes(
    converged: Host, checkout: Checkout, script: str, state: str, words: str
) -> None:
    converged.run(["sh", "-euc", f"systemctl stop mailserver-postgres; rm -rf /opt/postgres/data/*; {script}"])
    for test in (True, False):
        run = checkout.apply("storage.quota", test=test)
        assert words in run.failed[state]
        assert not set(run.changed) & {OWNED, THERE, "vmail exists"}


def test_quotas_are_refused_where_there_are_none(converged: Host, checkout: Checkout) -> None:
    """The lab's file system is btrfs or this machine's own, and its kernel has no disk quotas at all."""
    fstab = converged.read("/etc/fstab")
    checkout.pillar({**checkout.good_pillar(converged), "storage": {"quota": {"enabled": True}}})
    for test in (True, False):
        run = checkout.apply("storage.quota", test=test)
        assert (
            "only ext4 is supported" in run.failed["quotas for mail"]
            or "no disk quotas" in run.failed["quotas for mail"]
        )
    assert converged.read("/etc/fstab") == fstab


def test_the_command_says_what_is(converged: Host) -> None:
    said = converged.run(["mailhost-quota", "check"], check=False)
    assert said.returncode == 1
    assert said.stdout.startswith("user quotas on / cannot be had: ")
    refused = converged.run(["mailhost-quota", "enable", "--dry-run"], check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("mailhost-quota: ")
    assert "switch quotas on" in converged.run(["mailhost-quota", "--help"]).stdout
