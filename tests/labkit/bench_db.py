"""`make bench-db`: what backup, restore and drill of a 1 GB database take, and what archiving costs; into the document.

Seconds are those of one machine in one run, and so is throughput: what can be compared are the ratios.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from .checkout import PROJECT, Checkout
from .host import Host
from .lab import Lab

DOCUMENT = PROJECT / "docs/benchmarks.md"
HEADING = "## Backups of a 1 GB database\n"
SCALE = 70  # 15 MB each
CLIENTS, SECONDS, ROUNDS = 4, 20, 5
CONF = "/opt/mail_server/postgres/conf/postgresql.conf"
_BENCH = "docker exec mailserver-postgres pgbench -U postgres -h /var/run/postgresql"
_PSQL = "docker exec mailserver-postgres psql -XAtq -U postgres -h /var/run/postgresql bench"


def timed(host: Host, *argv: str) -> tuple[float, str]:
    """Return how long a command of the host took in seconds, and what it printed."""
    begun = time.monotonic()
    said = host.run(argv).stdout
    return time.monotonic() - begun, said


def throughput(host: Host) -> float:
    """Return the transactions a second of one run of pgbench, after a checkpoint."""
    host.run(["sh", "-euc", f"{_PSQL} -c CHECKPOINT"])
    said = host.run(["sh", "-euc", f"{_BENCH} -c {CLIENTS} -j 2 -T {SECONDS} bench"]).stdout
    found = re.search(r"tps = ([\d.]+)", said)
    assert found, said
    return float(found[1])


def archiving(host: Host, mode: str) -> None:
    """Switch archiving on or off, which takes a restart of the server."""
    edit = f"sed -i 's/^archive_mode = .*/archive_mode = {mode}/' {CONF}"
    host.run(["sh", "-euc", f"{edit}; grep -q '^archive_mode = {mode}' {CONF}; docker restart mailserver-postgres"])
    host.run(["systemctl", "start", "mailserver-postgres"])
    ready = "until docker exec mailserver-postgres pg_isready -q -h /var/run/postgresql; do sleep 0.2; done"
    host.run(["sh", "-euc", ready], timeout=60)


def newest(host: Host) -> tuple[int, int]:
    """Return the size of the newest backup when restored, and what it takes in the repository."""
    facts = json.loads(host.run(["mailhost-pg", "check", "--json"], check=False).stdout)["facts"]
    backup = facts["repositories"][0]["backups"][-1]
    return int(backup["size"]), int(backup["repository_size"])


def measure(host: Host) -> list[str]:
    """Measure on a host to which all tasks have been applied, and return the document's part."""
    host.run(["sh", "-euc", "systemctl stop 'mailhost-pg-*.timer'"])
    host.run(
        [
            "sh",
            "-euc",
            f"{_PSQL.replace(' bench', ' postgres')} -c 'CREATE DATABASE bench'; {_BENCH} -qi -s {SCALE} bench",
        ]
    )
    full, _ = timed(host, "mailhost-pg", "backup", "--type=full")
    size, stored = newest(host)
    throughput(host)
    diff, _ = timed(host, "mailhost-pg", "backup", "--type=diff")
    _, more = newest(host)
    throughput(host)
    drill, said = timed(host, "mailhost-pg", "drill", "--json")
    proof = json.loads(said.splitlines()[-1])
    restore, _ = timed(host, "mailhost-pg", "restore", "--latest", "--yes")

    rates: dict[str, list[float]] = {"off": [], "on": []}
    for _ in range(ROUNDS):
        for mode, found in rates.items():
            archiving(host, mode)
            found.append(throughput(host))
    off, on = (statistics.median(found) for found in rates.values())
    spread = max((max(found) - min(found)) / statistics.median(found) for found in rates.values())
    parts = proof["seconds"]
    return [
        "| what | s | of the full backup's time | size |",
        "| --- | --- | --- | --- |",
        f"| full backup of {size / 1e6:.0f} MB | {full:.1f} | 1.0 | {stored / 1e6:.0f} MB, {stored / size:.0%} |",
        f"| differential backup after {SECONDS} s of pgbench | {diff:.1f} | {diff / full:.1f} | {more / 1e6:.0f} MB |",
        f"| `mailhost-pg restore --latest`, with the new base backup | {restore:.1f} | {restore / full:.1f} | |",
        f"| `mailhost-pg drill`, all of it | {drill:.1f} | {drill / full:.1f} | |",
        f"| – of it: to the restored server (RTO) | {proof['rto_seconds']:.1f} | {proof['rto_seconds'] / full:.1f} | |",
        f"| – of it: pg_amcheck and pg_checksums | {parts['checks']:.1f} | {parts['checks'] / full:.1f} | |",
        "",
        f"| pgbench, {CLIENTS} clients, medians of {ROUNDS} runs of {SECONDS} s in turn | transactions/s | ratio |",
        "| --- | --- | --- |",
        f"| archive_mode = off | {off:.0f} | 1.00 |",
        f"| archive_mode = on | {on:.0f} | {on / off:.2f} |",
        "",
        f"Runs of the same kind differ by up to {spread:.0%} here: a ratio nearer to 1 than that says nothing.",
    ]


def document(before: str, rows: list[str]) -> str:
    """Return the document with its part about backups anew."""
    kept = before.partition(HEADING)[0].rstrip()
    words = f"Made by `make bench-db` on a lab host: pgbench at scale {SCALE}. Here too only ratios say something."
    return "\n".join([kept, "", HEADING, words, "", *rows, ""])


def main() -> int:
    """Measure on a lab host and write the document."""
    with Lab(f"bench-db-{os.getpid()}") as lab, tempfile.TemporaryDirectory() as directory:
        host = lab.host("mail")
        host.boot()
        with Checkout(Path(directory) / "c", host) as checkout:
            done = checkout.apply()
            assert done.returncode == 0, done.result
        rows = measure(host)
    DOCUMENT.write_text(document(DOCUMENT.read_text(), rows))
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
