"""The base image: a Debian 13 shaped like a fresh Vultr VPS, made once and copied for every host."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from . import store
from .apt import KEYRING, SUITE, Apt, read_apt, require_keyring
from .tools import cache_dir, locked, require_programs, require_root, run

PACKAGES = (
    "systemd", "systemd-sysv", "systemd-timesyncd", "dbus", "libpam-systemd", "openssh-server", "python3", "sudo",
    "iproute2", "iputils-ping", "ca-certificates", "cron", "kmod", "procps", "less", "bash-completion", "vim-tiny",
    "netbase", "gnupg", "curl", "logrotate",
    "wireguard-go",  # wg-quick falls back to it where this machine's kernel has no WireGuard
)  # fmt: skip
SHAPE = Path(__file__).with_name("vultr.sh")


def base(packages: Iterable[str] = ()) -> Path:
    """Return the base image's directory, building it when it is not there yet (about 80 s).

    Params: packages, to have beside the usual ones; another set is another image.
    Raises: LabError when this machine cannot build it.
    """
    require_root()
    require_programs("debootstrap", "systemd-nspawn", "ip", "iptables", "ssh-keygen")
    apt = read_apt()
    extra = sorted(set(packages))
    shape = SHAPE.read_text()
    wanted = json.dumps([PACKAGES, extra, SUITE, _CHROOT, shape, apt.sources(), apt.options, apt.certificates])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    with locked(store.building(), shared=True), locked(cache_dir() / f"base-{key}.lock"):
        image = store.trees() / f"base-{key}"
        if not image.exists():
            _build(image, apt, [*PACKAGES, *extra], shape)
    return image


def _build(image: Path, apt: Apt, packages: list[str], shape: str) -> None:
    """Make the image in a directory of another name, and give it its name when it is complete."""
    require_keyring()
    unfinished = image.with_name(f"{image.name}.unfinished")
    store.remove(unfinished)
    store.create(unfinished)
    unfinished.chmod(0o755)
    run([
        "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--keyring={KEYRING}",
        SUITE, unfinished, apt.mirror,
    ])  # fmt: skip
    _apt_inside(unfinished, apt)
    # The chroot resolves names by this machine's resolver; the host made from it gets a copy of its own.
    shutil.copyfile("/etc/resolv.conf", unfinished / "etc/resolv.conf")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    # What is mounted for the chroot goes with the mount namespace.
    run(["unshare", "-m", "sh", "-euc", _CHROOT, "sh", unfinished], input=shape, env={**os.environ, **env})
    unfinished.rename(image)


# No service may be started while packages are installed in the chroot.
_CHROOT = """
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
mount -t proc proc "$1/proc"
mount -t devtmpfs dev "$1/dev" 2>/dev/null || mount --bind /dev "$1/dev"
chroot "$1" /bin/sh -eu
rm "$1/usr/sbin/policy-rc.d"
"""


def _apt_inside(tree: Path, apt: Apt) -> None:
    """Let apt in the tree work as this machine's does: mirrors, proxy, certificates."""
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    (tree / "etc/apt/sources.list.d/debian.sources").write_text(apt.sources())
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
