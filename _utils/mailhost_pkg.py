"""Packages: what apt-get says it would do. Pure."""

import re
from collections.abc import Iterable, Iterator

from salt.exceptions import CommandExecutionError

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


def planned(output: str) -> dict[str, dict[str, str]]:
    """Return what ``parse_simulation`` does; raise CommandExecutionError when packages would be removed for it."""
    found = parse_simulation(output)
    if gone := parse_removal(output):
        raise CommandExecutionError(
            f"{', '.join(found)}: not installed, apt would remove {', '.join(gone)} for that: remove it yourself "
            "first, or switch off the control that wants the new one (hardening.disabled)"
        )
    return found


def security_source(sources: Iterable[str], suite: str) -> tuple[bool, str]:
    """Return whether apt knows the suite's security archive, and a source for it on the mirror that apt uses.

    sources
        The texts of apt's sources.list(5) files, of either format.
    suite
        Debian's name of the release, e.g. trixie.

    The text is "" where the mirror's path does not end in /debian: then there is no telling where the other archive is.
    """
    archives = [archive for text in sources for archive in _archives(text)]
    known = any(f"{suite}-security" in suites for _, suites, _ in archives)
    for uri, suites, signed in archives:
        if suite in suites and uri.rstrip("/").endswith("/debian"):
            fields = {
                "Types": "deb",
                "URIs": f"{uri.rstrip('/')}-security",
                "Suites": f"{suite}-security",
                "Components": "main",
                "Signed-By": signed or "/usr/share/keyrings/debian-archive-keyring.gpg",
            }
            return known, "# Managed by Salt.\n" + "".join(f"{name}: {value}\n" for name, value in fields.items())
    return known, ""


def _archives(text: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield the archives of a file of sources: URI, suites, keyring."""
    for line in text.splitlines():
        if match := re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)", line):
            options = dict(option.partition("=")[::2] for option in (match.group(1) or "").split())
            yield match.group(2), [match.group(3)], options.get("signed-by", "")
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            name.lower(): value.split()
            for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            for uri in fields.get("uris", []):
                yield uri, fields.get("suites", []), " ".join(fields.get("signed-by", []))
