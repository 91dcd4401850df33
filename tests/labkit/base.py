"""The base image: a Debian 13 shaped like a fresh Vultr VPS, made once and copied for every host."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from . import image as postgres
from . import store
from .apt import SUITE, Apt, read_apt
from .chroot import CHROOT, bootstrap
from .tools import cache_dir, locked, require_programs, require_root

PACKAGES = (
    "systemd", "systemd-sysv", "systemd-timesyncd", "dbus", "libpam-systemd", "openssh-server", "python3", "sudo",
    "iproute2", "iputils-ping", "ca-certificates", "cron", "kmod", "procps", "less", "bash-completion", "vim-tiny",
    "netbase", "gnupg", "curl", "logrotate",
    "wireguard-go",  # wg-quick falls back to it where this machine's kernel has no WireGuard
)  # fmt: skip
SHAPE = Path(__file__).with_name("vultr.sh")


def base(packages: Iterable[str] = ()) -> Path:
    """Return the base image's directory, building it when it is not there yet (two minutes).

    Params: packages, to have beside the usual ones; another set is another image.
    Raises: LabError when this machine cannot build it.
    """
    require_root()
    require_programs("debootstrap", "systemd-nspawn", "ip", "iptables", "ssh-keygen")
    apt = read_apt()
    extra = sorted(set(packages))
    shape = SHAPE.read_text()
    wanted = json.dumps([PACKAGES, extra, SUITE, CHROOT, shape, apt.sources(), apt.options, apt.certificates])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    with locked(store.building(), shared=True), locked(cache_dir() / f"base-{key}.lock"):
        image = store.trees() / f"base-{key}"
        stocked = store.trees() / f"{image.name}-{postgres.place().stem}"
        if not stocked.exists():
            archive = postgres.archive()
            if not image.exists():
                _build(image, apt, [*PACKAGES, *extra], shape)
            _stock(image, stocked, archive)
    return stocked


def _build(image: Path, apt: Apt, packages: list[str], shape: str) -> None:
    """Make the image in a directory of another name, and give it its name when it is complete."""
    unfinished = image.with_name(f"{image.name}.unfinished")
    store.remove(unfinished)
    store.create(unfinished)
    bootstrap(unfinished, apt, packages, shape)
    unfinished.rename(image)


def _stock(image: Path, stocked: Path, archive: Path) -> None:
    """Make a copy of the image that has PostgreSQL's container image, which a real host would get from a registry."""
    unfinished = stocked.with_name(f"{stocked.name}.unfinished")
    store.remove(unfinished)
    store.copy(image, unfinished)
    target = unfinished / postgres.ARCHIVE.lstrip("/")
    target.parent.mkdir()
    shutil.copyfile(archive, target)
    unfinished.rename(stocked)
