"""A second repository by S3: filled, away and back again, restored from."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from labkit import Host, Lab
from labkit.checkout import Checkout
from labkit.s3 import Bucket

from .test_restore import DELETE, DOMAIN, MAIL, sql, stamp, tool
from .test_restore import _healthy as healthy
from .test_restore import _until as until

pytestmark = pytest.mark.lab


@pytest.mark.thorough("rare, and takes minutes")
def test_a_repository_in_a_bucket(mail_lab: Lab, converged: Host, checkout: Checkout, tmp_path: Path) -> None:
    """By S3, over IPv6: a wrong key, a server that is away, a drill, and a restore to a second from there."""
    healthy(converged)
    archive = ["sh", "-c", "ls /opt/postgres/wal_archive/mail/17-1/*"]
    with Bucket(mail_lab, tmp_path) as bucket:

        def told(**changes: str) -> None:
            offsite = bucket.pillar(**changes)
            checkout.pillar({**checkout.good_pillar(converged), "backup": {"offsite": offsite}})

        # All else is done, and then one sentence says what is not.
        told(key_secret="a-wrong-one")
        (said,) = checkout.apply("backup.ready").failed.values()
        assert said.startswith("repository 2 cannot be looked at, so what it lacks is not known and not made: ")
        assert "403" in said and "signature" in said and "\n" not in said
        wal = _switched(converged)
        until(lambda: wal in converged.run(archive).stdout)

        told()
        dry, run = checkout.apply("backup.ready", test=True), checkout.apply("backup.ready")
        assert not run.failed
        assert {name: set(found) for name, found in dry.changed.items()} == {
            name: set(found) for name, found in run.changed.items()
        }
        assert run.marks["2.1.3"] == "[x]"
        secret = bucket.key["SecretAccessKey"]
        assert secret not in run.result.stdout + dry.result.stdout
        # Parts of a backup are encrypted without that header.
        whole = [name for name in bucket.names() if "/archive/" in name or "/backup.info" in name]
        assert len(whole) > 4 and {bucket.begins(name) for name in whole} == {b"Salted__"}
        readable = f"grep -rlF '{secret}' /etc /opt/mail_server /var/lib/mailhost-pg | xargs stat -c '%a %u' | sort -u"
        assert converged.run(["sh", "-c", readable]).stdout == "400 999\n"

        # Away: the one on the host has all of it at once, and the bucket when it is back.
        bucket.reachable(False)
        first, last = _switched(converged), _switched(converged)
        until(lambda: first in converged.run(archive).stdout and last in converged.run(archive).stdout, 90)
        bucket.reachable(True)
        _switched(converged)
        until(lambda: any(last in name for name in bucket.names()), 120)

        proof = json.loads(tool(converged, "drill", "--repository", "2", "--json").stdout)
        assert proof["passed"] and proof["repository"] == 2
        sql(converged, DOMAIN)
        before = [sql(converged, f"table mail.{name} order by 1, 2") for name in MAIL]
        time.sleep(0.1)
        moment = stamp(time.time())
        sql(converged, DELETE)
        tool(converged, "restore", "--to", moment, "--repository", "2", "--yes")
        assert [sql(converged, f"table mail.{name} order by 1, 2") for name in MAIL] == before
        assert "Would restore" in tool(converged, "restore", "--latest", "--repository", "2", "--dry-run").stdout
        tool(converged, "verify", "--repository", "2")


def _switched(host: Host) -> str:
    """Let the server end the segment that it writes to, and return its name."""
    return sql(host, "create table switched (); drop table switched; select pg_walfile_name(pg_switch_wal() - 1)")
