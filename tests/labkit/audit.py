"""`make audit`: what auditors that are not ours say of a host, as the provider delivers it and with all tasks applied.

Lynis, ssh-audit and OpenSCAP are Debian 13's own packages. Its ssg-debian knows Debian 12 at most and has no profile of
CIS; a data stream for Debian 13 (ComplianceAsCode/content, `./build_product debian13`) is used instead when
MAILHOST_SSG_DATASTREAM names one. Its checks of sshd read /etc/ssh/sshd_config and none of the files that it includes:
they are given what sshd itself says its configuration is (`sshd -T`) in that place, before and after alike.

With MAILHOST_LAB_VIRTUAL=1 the host is a virtual machine: its kernel is its own, and nothing fails for the lab's sake.
Either kind is measured fresh, put back to what it was before that, applied to and measured again; emulated, with each
profile of OpenSCAP a quarter of an hour, that is a matter of hours.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .checkout import Checkout
from .exactness import table
from .host import Host
from .lab import Lab
from .tools import LabError
from .virtual import ASKED, Virtual

# linux-base comes with every kernel; without it OpenSCAP takes the host for a container and leaves most rules out.
PACKAGES = ("lynis", "ssh-audit", "openscap-scanner", "ssg-debian", "linux-base")
DATASTREAM = "MAILHOST_SSG_DATASTREAM"
DEBIAN_12 = "/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml"
RULE = "xccdf_org.ssgproject.content_rule_"
PROFILE = "xccdf_org.ssgproject.content_profile_"
NAMESPACE = "{http://checklists.nist.gov/xccdf/1.2}"

# What fails in a container only: its kernel is this machine's, without auditing, its clock is none of its business, and
# no boot loader starts it.
LAB_ONLY = re.compile(
    r"sysctl_(kernel|fs|vm|dev)_|service_(auditd|timesyncd)_enabled|ntp_single_service_active|grub2_enable_apparmor"
)


@dataclass(frozen=True)
class Score:
    """What one tool says of a host: a figure to compare, and what is behind it."""

    tool: str
    profile: str
    figure: str
    failed: tuple[str, ...] = ()


def scores(host: Host, datastream: Path | None) -> list[Score]:
    """Run all tools on a host and return what they say; the host is left with them on it."""
    host.run(["apt-get", "update", "-q"])
    host.run(["apt-get", "install", "-qy", "--no-install-recommends", *PACKAGES])
    return [_lynis(host), *_ssh_audit(host), *_openscap(host, datastream)]


def _lynis(host: Host) -> Score:
    host.run(["lynis", "audit", "system", "--quick", "--no-colors"], check=False)
    report = host.read("/var/log/lynis-report.dat")
    (index,) = re.findall(r"^hardening_index=(\d+)", report, re.MULTILINE)
    suggestions = re.findall(r"^(?:warning|suggestion)\[\]=(\S+?)\|", report, re.MULTILINE)
    return Score("Lynis", "system", index, tuple(suggestions))


def _ssh_audit(host: Host) -> list[Score]:
    """Ask sshd where it listens: the host's own address counts as one that is let in."""
    effective = dict(line.split(" ", 1) for line in host.run(["sshd", "-T"]).stdout.splitlines() if " " in line)
    address, _, port = effective["listenaddress"].rpartition(":")
    where = address.strip("[]") if address not in ("0.0.0.0", "[::]") else "127.0.0.1"
    said = json.loads(host.run(["ssh-audit", "-j", "-p", port, where], check=False).stdout)
    notes = Counter(
        level for kind in ("kex", "key", "enc", "mac") for entry in said[kind] for level in entry.get("notes", {})
    )
    found = [Score("ssh-audit", "algorithms", f"{notes['fail']} fail, {notes['warn']} warn")]
    policies = host.run(["ssh-audit", "-L"], check=False).stdout
    if policy := re.search(r'"(Hardened Debian 13[^"]*)"', policies):
        passed = host.run(["ssh-audit", "-P", policy.group(1), "-p", port, where], check=False).returncode == 0
        found.append(Score("ssh-audit", policy.group(1), "passed" if passed else "failed"))
    return found


def _openscap(host: Host, datastream: Path | None) -> list[Score]:
    if datastream:
        host.put(datastream.read_text(), "/root/datastream.xml")
        wanted = {"cis_level1_server": "CIS level 1", "cis_level2_server": "CIS level 2"}
        names = {**wanted, "anssi_bp28_enhanced": "ANSSI enhanced"}
    else:
        # Its check of the release is the one thing that keeps it from Debian 13.
        text = host.read(DEBIAN_12).replace(r"^12.[0-9]+$", r"^1[23].[0-9]+$")
        host.put(text, "/root/datastream.xml")
        names = {"anssi_bp28_enhanced": "ANSSI enhanced, Debian 12", "standard": "standard, Debian 12"}
    host.run(["sh", "-euc", "sshd -T >/root/sshd_config; cat /root/sshd_config >/etc/ssh/sshd_config"])
    return [score for profile, name in names.items() for score in _profile(host, profile, name)]


def _profile(host: Host, profile: str, name: str) -> list[Score]:
    argv = ["oscap", "xccdf", "eval", "--profile", PROFILE + profile, "--results", "/root/results.xml"]
    host.run([*argv, "/root/datastream.xml"], check=False)
    benchmark = ElementTree.fromstring(host.read("/root/results.xml"))
    results = {
        found.get("idref", "").removeprefix(RULE): found.findtext(f"{NAMESPACE}result", "")
        for found in benchmark.iter(f"{NAMESPACE}rule-result")
    }
    failed = tuple(rule for rule, result in results.items() if result in ("fail", "error"))
    counts = f"{sum(result == 'pass' for result in results.values())} pass, {len(failed)} fail"
    raw = Score("OpenSCAP", name, f"{_score(benchmark, results):.1f} ({counts})", failed)
    if isinstance(host, Virtual):
        return [raw]
    own = {**results, **{rule: "pass" for rule in failed if LAB_ONLY.match(rule)}}
    return [raw, Score("OpenSCAP", f"{name}, the lab's own failures aside", f"{_score(benchmark, own):.1f}")]


def _score(benchmark: ElementTree.Element, results: dict[str, str]) -> float:
    """Return the default score of XCCDF 1.2: the mean of each group's children that were judged, up to the whole."""

    def mean(node: ElementTree.Element) -> float | None:
        if node.tag == f"{NAMESPACE}Rule":
            result = results.get(node.get("id", "").removeprefix(RULE), "")
            return {"pass": 100.0, "fixed": 100.0, "fail": 0.0, "error": 0.0, "unknown": 0.0}.get(result)
        judged = [
            found
            for child in node
            if child.tag in (f"{NAMESPACE}Rule", f"{NAMESPACE}Group")
            for found in (mean(child),)
        ]
        values = [value for value in judged if value is not None]
        return sum(values) / len(values) if values else None

    return mean(benchmark) or 0.0


def main() -> int:
    """Measure a fresh host and the same with all tasks applied, and print the table."""
    named = os.environ.get(DATASTREAM)
    datastream = Path(named) if named else None
    with Lab(f"audit-{os.getpid()}") as lab, tempfile.TemporaryDirectory() as directory:
        host = lab.virtual("mail") if os.environ.get(ASKED) else lab.host("mail")
        host.boot()
        host.snapshot("pristine")
        before = scores(host, datastream)
        host.restore("pristine")
        with Checkout(Path(directory) / "checkout", host) as checkout:
            run = checkout.apply()
            if run.returncode:
                raise LabError(f"the tree could not be applied: {run.failed}")
        host.background_done()
        after = scores(host, datastream)
    rows = [(old.tool, old.profile, old.figure, new.figure) for old, new in zip(before, after, strict=True)]
    print(table(("tool", "profile", "fresh", "finished"), rows))
    for score in after:
        if score.failed:
            print(f"\n{score.tool}, {score.profile}: {', '.join(score.failed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
