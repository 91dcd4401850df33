"""What this machine's own apt says: the mirrors, the proxy and the certificates a lab host must use as well.

No host name of a package registry is written down in this project: the names come from here.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .tools import LabError, require_programs, run

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CARRIED = re.compile(r"^Acquire::(https?|ftp)::|^Acquire::(Check-Valid-Until|Check-Date|Retries|ForceIPv[46]) ")
_FILES = re.compile(r"::(CaInfo|SslCert|SslKey) ", re.IGNORECASE)


@dataclass(frozen=True)
class Apt:
    """How packages are got: the mirror, whether there are updates and security suites, options and certificates."""

    mirror: str
    updates: bool
    security: str | None
    options: tuple[str, ...]
    certificates: tuple[str, ...]

    def sources(self, suites: tuple[str, ...] = (SUITE,)) -> str:
        """Return the text of a deb822 sources file for some suites."""
        updates = [f"{suite}-updates" for suite in suites] if self.updates else []
        stanzas = [(self.mirror, " ".join([*suites, *updates]))]
        if self.security:
            stanzas.append((self.security, " ".join(f"{suite}-security" for suite in suites)))
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {names}\nComponents: main\nSigned-By: {KEYRING}\n"
            for uri, names in stanzas
        )

    def ports(self) -> set[int]:
        """Return the TCP ports that packages come from: those of the mirrors and of any proxy, and the usual ones."""
        found = {80, 443}
        for url in re.findall(r"\w+://[^\s\";]+", " ".join([self.mirror, self.security or "", *self.options])):
            port = urlsplit(url).port
            if port:
                found.add(port)
        return found


@functools.cache
def read_apt() -> Apt:
    """Read this machine's apt configuration.

    MAILHOST_LAB_MIRROR overrides the mirror, for a machine whose apt names no Debian mirror (Ubuntu).
    Raises: LabError when there is no Debian mirror.
    """
    # As its sources say, whether or not their lists have been fetched.
    asked = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE)"]
    targets = run([*asked, "Created-By: Packages"]).stdout
    words = [line.split() for line in targets.splitlines()]
    pairs = [(line[0].rstrip("/"), line[1]) for line in words if len(line) == 2]
    mirror = os.environ.get("MAILHOST_LAB_MIRROR") or _first(pairs, r"bullseye|bookworm|trixie|forky|sid|(old)?stable")
    if mirror is None:
        raise LabError("this machine's apt names no Debian mirror: set MAILHOST_LAB_MIRROR to one")
    updates = _first(pairs, r"\w+-updates") is not None
    security = _first(pairs, r"(?!ubuntu)\w+-security") if _os_id() == "debian" else None
    return Apt(mirror, updates, security, _options(), _certificates())


def require_keyring() -> None:
    """Make sure the keyring knows the suite's keys, by upgrading debian-archive-keyring if it does not.

    Raises: LabError when it still does not.
    """
    signed = KEYRING.parent / f"debian-archive-{SUITE}-stable.gpg"
    if not _knows(signed):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=env)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "debian-archive-keyring"], env=env)
    if not _knows(signed):
        raise LabError(f"the newest debian-archive-keyring of this machine's apt has no keys for {SUITE}")
    require_programs("debootstrap")


def _knows(signed: Path) -> bool:
    return KEYRING.exists() and (signed.exists() or signed.with_suffix(".pgp").exists())


def _first(pairs: list[tuple[str, str]], release: str) -> str | None:
    """Return the URI of the first Debian source whose release matches the pattern."""
    for uri, name in pairs:
        if re.fullmatch(release, name):
            return _resolved(uri)
    return None


def _resolved(uri: str) -> str:
    """Return the mirror itself where apt is given a file with a list of mirrors, as cloud images do."""
    if not uri.startswith("mirror+file:"):
        return uri
    listed = Path("/" + uri.removeprefix("mirror+file:").lstrip("/")).read_text().split()
    return listed[0].rstrip("/")


def _options() -> tuple[str, ...]:
    """Return the lines of apt configuration that decide whether and how a download works."""
    dumped = run(["apt-config", "dump"]).stdout.splitlines()
    lines = [line for line in dumped if _CARRIED.match(line) and not line.endswith(' "";')]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return tuple(lines)


def _certificates() -> tuple[str, ...]:
    """Return the certificate files of this machine's own, and those that apt is pinned to."""
    own = sorted(str(path) for path in Path("/usr/local/share/ca-certificates").rglob("*.crt"))
    pinned = [shlex.split(line.rstrip(";"))[1] for line in _options() if _FILES.search(line)]
    return tuple(dict.fromkeys([*own, *(path for path in pinned if Path(path).is_file())]))


def _os_id() -> str:
    found = re.search(r"^ID=\"?(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found.group(1) if found else ""
