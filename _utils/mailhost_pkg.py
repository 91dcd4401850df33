"""Packages: what apt-get says it would do. Pure."""

import re

# apt-get(8), -s: lines of "Inst package [installed version] (new version …)".
_INST = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+) ", re.MULTILINE)


def parse_simulation(output: str) -> dict[str, dict[str, str]]:
    """Return the packages apt-get would install, ``{"sudo": {"old": "", "new": "1.9.16p2-3"}}``."""
    return {name: {"old": old, "new": new} for name, old, new in _INST.findall(output)}


# apt-get(8), -s: lines of "Purg package [version]" and "Remv package [version]".
_GONE = re.compile(r"^(?:Purg|Remv) (\S+) \[(\S+)\]", re.MULTILINE)


def parse_removal(output: str) -> dict[str, str]:
    """Return the packages apt-get would remove, and their versions."""
    return dict(_GONE.findall(output))


def security_source(targets: str, suite: str) -> tuple[bool, str]:
    """Return whether apt knows the suite's security archive, and a source for it on the mirror that apt uses.

    targets
        ``apt-get indextargets --format "$(RELEASE) $(REPO_URI) $(SIGNED_BY)"``.
    suite
        Debian's name of the release, e.g. trixie.

    The text is "" where the mirror's path does not end in /debian: then there is no telling where the other archive is.
    """
    words = [line.split() for line in targets.splitlines()]
    known = any(line[0] == f"{suite}-security" for line in words if line)
    for line in words:
        if len(line) >= 2 and line[0] == suite and line[1].rstrip("/").endswith("/debian"):
            fields = {
                "Types": "deb",
                "URIs": f"{line[1].rstrip('/')}-security",
                "Suites": f"{suite}-security",
                "Components": "main",
                "Signed-By": line[2] if len(line) > 2 else "/usr/share/keyrings/debian-archive-keyring.gpg",
            }
            return known, "# Managed by Salt.\n" + "".join(f"{name}: {value}\n" for name, value in fields.items())
    return known, ""
