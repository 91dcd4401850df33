"""What a host is at one moment, to be compared with another moment: its disk and what runs on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .host import Host

Facts = Mapping[str, object]

# What a login and a run of salt-ssh leave behind when nothing is changed, each for its reason; everything else counts.
LEFT_OUT = {
    "var/log/journal": "the journal notes every login, and what the run itself says",
    "var/log/wtmp": "notes every login",
    "var/log/wtmp.db": "notes every login (libpam-wtmpdb)",
    "var/lib/wtmpdb": "notes every login (libpam-wtmpdb)",
    "var/log/lastlog": "notes every login",
    "var/lib/lastlog": "notes every login (libpam-lastlog2)",
    **{f"var/log/{name}": "rsyslog's: notes every login" for name in ("auth.log", "syslog", "user.log", "cron.log")},
    "var/log/kern.log": "rsyslog's: the machine's kernel speaks whenever it likes",
    "var/log/sudo.log": "sudo's: notes every command",
    "var/lib/fail2ban/fail2ban.sqlite3": "keeps how far fail2ban has read the journal, which notes every login",
    "opt/postgres/data": "PostgreSQL's: a question may set hint bits, and a checkpoint comes when it likes",
    "var/lib/docker/containers": "what they say, and PostgreSQL notes every login; when they were seen healthy",
    "var/lib/systemd/timesync/clock": "touched by timesyncd while it runs (systemd-timesyncd(8))",
}
# salt-ssh's own home on the host: Salt itself and the modules of this tree, in a directory for each login user.
_THIN = re.compile(r"var/tmp/\.[a-z_][a-z0-9_-]*_[0-9a-f]+_salt(/|$)")
# What a running database writes by itself: its files, its archive, and what it and the look at its health print.
_DATABASE = re.compile(r"opt/postgres/(data|wal_\w+)/|var/lib/docker/containers/[0-9a-f]+/[0-9a-f]+-json\.log")
# Salt's directory appears at the first run, a log with its first line: that changes the times of the one above.
_PARENTS = ("var/tmp", "var/log")
# Logins come and go, with their sessions and service managers; the link-local address comes a second after boot; while
# Docker starts it tries overlayfs out, and what runs in a container (the look at its health) is in a file for a moment.
# Mounts are a kind of their own: systemd's units of them come late, for it reads
# the kernel's table a few times a second at most.
_NOISE = re.compile(
    r"session-\S+\.scope|user(-runtime-dir)?@\d+\.service|user-\d+\.slice|run-user-\d+\.mount|/run/user/\d+ |\bfe80:"
    r"|/tmp/runc-process\d+ "
    r"|/var/lib/docker/check-|/var/lib/docker/overlay2/\S+check\d+/|\.mount loaded active mounted "
)
# Comments of iptables-save (the time), packet counters, times that run down.
_COUNTERS = re.compile(r"^#.*|\[\d+:\d+\]|counter packets \d+ bytes \d+|expires \d+sec|(valid|preferred)_lft \d+sec")

_COMMANDS = {
    "units": ["systemctl", "list-units", "--plain", "--no-legend", "--full", "--state=active,failed"],
    "unit files": ["systemctl", "list-unit-files", "--plain", "--no-legend", "--full"],
    "packages": ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n"],
    "sockets": ["ss", "-Hlntu"],
    "addresses": ["ip", "-o", "address"],
    "routes": ["ip", "route", "show", "table", "all"],
    "mounts": ["findmnt", "-rno", "TARGET,SOURCE,FSTYPE"],
    # On no disk, so the tree does not have them.
    "temporary files": ["find", "/tmp", "/dev/shm", "-mindepth", "1", "-printf", "%p %m %u %s %t\n"],
}
# In the host's network namespace, whether or not the host has the programs itself.
_RULES = {"iptables": ["iptables-save"], "ip6tables": ["ip6tables-save"], "nft": ["nft", "list", "ruleset"]}


@dataclass(frozen=True)
class Evidence:
    """A host at one moment: every path of its disk, and lines of what runs, by kind."""

    files: Facts
    running: Mapping[str, frozenset[str]]

    def differences(self, later: Evidence) -> list[str]:
        """Return in words what is not the same at a later moment; nothing when all is."""
        found = [
            f"{path}: {self.files.get(path, 'not there')} -> {later.files.get(path, 'gone')}"
            for path in sorted({*self.files, *later.files})
            if self.files.get(path) != later.files.get(path)
        ]
        for kind, lines in self.running.items():
            found += [f"{kind}: - {line}" for line in sorted(lines - later.running[kind])]
            found += [f"{kind}: + {line}" for line in sorted(later.running[kind] - lines)]
        return found


def evidence(host: Host) -> Evidence:
    """Look at a running host without changing it; accounts, hashes and configuration are files like others."""
    running = {kind: _lines(host, argv) for kind, argv in _COMMANDS.items()}
    for kind, argv in _RULES.items():
        running[kind] = _lines(host, argv) if _has(host, argv[0]) else frozenset()
    return Evidence(_files(host), running)


def _files(host: Host) -> Facts:
    tree = host.tree_hash(exclude=LEFT_OUT)
    files: dict[str, object] = {
        path: entry for path, entry in tree.items() if not _THIN.match(path) and not _DATABASE.match(path)
    }
    return {**files, **{path: tree[path]._replace(mtime_ns=0) for path in _PARENTS if path in tree}}


def _lines(host: Host, argv: list[str]) -> frozenset[str]:
    """Return the lines a command in the host prints, without those that logins make and without counters."""
    text = host.run(argv).stdout
    lines = (" ".join(_COUNTERS.sub("", line).split()) for line in text.splitlines())
    return frozenset(line for line in lines if line and not _NOISE.search(line))


def _has(host: Host, program: str) -> bool:
    return any((host.root / place / program).exists() for place in ("usr/sbin", "usr/bin"))
