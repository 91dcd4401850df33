"""`make bench`: what a run with nothing to do costs, against the floor, as ratios within one run.

The floor is what no tool can go below: `ssh host true`, and one Python script over ssh that reads what the run reads.
Absolute numbers mean nothing on another machine; ratios do.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .checkout import Checkout
from .host import Host
from .lab import Lab

ROUNDS = 5
# The tasks that are measured; sshd stays on its port with them.
ACCESS = "access.ssh_proven,access.cleaned_up"
FLOOR = "one Python script that reads the same"

# Reads what the tasks read: accounts, sudo's files, keys, packages, sshd's settings.
SCRIPT = """
import glob, grp, os, pwd, subprocess
users, groups = pwd.getpwall(), grp.getgrall()
shadow = open("/etc/shadow").read()
sudoers = {path: open(path).read() for path in ["/etc/sudoers", *glob.glob("/etc/sudoers.d/*")]}
keys = [open(path).read() for path in glob.glob("/home/*/.ssh/authorized_keys")]
for argv in (["dpkg-query", "-W"], ["sshd", "-T"], ["cvtsudoers", "-f", "json", "/etc/sudoers"]):
    subprocess.run(argv, capture_output=True, check=True)
"""


def measured(act: Callable[[], object]) -> tuple[float, float]:
    """Return the median wall time and CPU time of this machine's side of an act, in seconds."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        act()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.monotonic() - begun)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def ssh(host: Host, *words: str, stdin: str = "") -> None:
    """Run words as the admin over a new connection."""
    argv = [*host.ssh_command("phalkonadmin"), *words]
    subprocess.run(argv, input=stdin, text=True, capture_output=True, check=True)


def main() -> int:
    """Measure on a lab host and print the table."""
    with Lab(f"bench-{os.getpid()}") as lab, tempfile.TemporaryDirectory() as directory:
        host = lab.host("mail")
        host.boot()
        with Checkout(Path(directory) / "c", host) as checkout:
            first = checkout.apply(ACCESS)
            assert first.returncode == 0, first.result

            def run(*words: str) -> Callable[[], object]:
                def act() -> None:
                    done = checkout.salt("mail", *words)
                    assert done.returncode == 0, done

                return act

            run("state.apply", ACCESS)()  # the admin's own thin is sent once
            rows = {
                "ssh host true": measured(lambda: ssh(host, "true")),
                "one Python script that reads the same": measured(
                    lambda: ssh(host, "sudo", "python3", "-", stdin=SCRIPT)
                ),
                "salt-ssh mail test.ping": measured(run("test.ping")),
                "salt-ssh mail state.apply, nothing to do": measured(run("state.apply", ACCESS)),
                "salt-ssh mail state.apply test=True": measured(run("state.apply", ACCESS, "test=True")),
                "salt-ssh mail state.apply status": measured(run("state.apply", "status")),
            }
    floor = rows[FLOOR][0]
    print(f"| what (medians of {ROUNDS}) | wall s | CPU s here | wall / floor |\n| --- | --- | --- | --- |")
    for name, (wall, cpu) in rows.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / floor:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
