"""A Debian in a directory, made by debootstrap with this machine's own mirrors and then shaped by a script inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .apt import KEYRING, SUITE, Apt, require_keyring
from .tools import run

# No service may be started while packages are installed in the chroot.
CHROOT = """
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
mount -t proc proc "$1/proc"
mount -t devtmpfs dev "$1/dev" 2>/dev/null || mount --bind /dev "$1/dev"
chroot "$1" /bin/sh -eu
rm "$1/usr/sbin/policy-rc.d"
"""


def bootstrap(tree: Path, apt: Apt, packages: Iterable[str], script: str, suites: tuple[str, ...] = (SUITE,)) -> None:
    """Make a minimal Debian of the lab's suite in an empty directory.

    Params: tree, the directory; apt, what this machine's apt says; packages, to have beside the minimal ones; script,
    for sh -eu, run inside when they are installed and apt works as this machine's does; suites, where it gets more.
    """
    require_keyring()
    tree.chmod(0o755)
    run([
        "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--keyring={KEYRING}",
        SUITE, tree, apt.mirror,
    ])  # fmt: skip
    _apt_inside(tree, apt, suites)
    # The chroot resolves names by this machine's resolver; what is made from it gets a file of its own.
    shutil.copyfile("/etc/resolv.conf", tree / "etc/resolv.conf")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    # What is mounted for the chroot goes with the mount namespace.
    run(["unshare", "-m", "sh", "-euc", CHROOT, "sh", tree], input=script, env={**os.environ, **env})


def _apt_inside(tree: Path, apt: Apt, suites: tuple[str, ...]) -> None:
    """Let apt in the tree work as this machine's does: mirrors, proxy, certificates."""
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    (tree / "etc/apt/sources.list.d/debian.sources").write_text(apt.sources(suites))
    keyring = tree / KEYRING.relative_to("/")
    if not keyring.exists():
        keyring.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(KEYRING, keyring)
    if apt.options:
        (tree / "etc/apt/apt.conf.d/99machine").write_text("\n".join(apt.options) + "\n")
    for name in apt.certificates:
        # At its own path for an option that names it, and among the local ones for everything else.
        places = [tree / name.lstrip("/")]
        if name.endswith((".crt", ".pem")):
            places.append(tree / "usr/local/share/ca-certificates" / (Path(name).stem + ".crt"))
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, place)
