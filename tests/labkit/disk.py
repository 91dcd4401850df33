"""The disk of a virtual machine: the base image with a kernel and a boot loader of its own, made once and copied.

The file system is filled by mkfs.ext4 and written to by debugfs, so no loop device is needed. GRUB is the exception: it
only goes where the disk is a disk, so the new system itself, started with its kernel and no boot loader, installs it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from . import qemu, store
from .base import base
from .tools import LabError, cache_dir, locked, require_programs, require_root, run

# Debian's kernel for clouds has what the full one has, but for the drivers of real machines.
PACKAGES = ("linux-image-cloud-amd64", "grub-pc", "e2fsprogs", "apparmor", "qemu-guest-agent")
NAME = "disk.raw"
_BYTES = 20 * 2**30  # sparse: only what is written takes room
_START = 2**20  # GRUB lives before the partition
_UUID = "6c1f3f5e-0b7a-4d57-9c0e-2d1b0e8a5d13"
_SETUP = "/setup-boot"
_DONE = "the boot loader is installed"
# The provider's fstab and serial console; nobody waits for a menu here. The agent and the lab's network are the lab's.
_SHAPE = {
    "etc/fstab": f"UUID={_UUID}\t/\text4\terrors=remount-ro\t0\t1\n",
    "etc/default/grub.d/50-lab.cfg": 'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"\n',
    _SETUP.lstrip("/"): f"""#!/bin/sh -eu
export PATH=/usr/sbin:/usr/bin
mount -o remount,rw /
grub-install --target=i386-pc /dev/vda
update-grub
mount -o remount,ro /
echo {_DONE} >/dev/ttyS0
poweroff -f
""",
}
_ENABLED = (
    ("systemd-networkd.service", "multi-user.target.wants"),
    ("systemd-networkd-wait-online.service", "network-online.target.wants"),
)


def image() -> Path:
    """Return the directory with the disk that machines start from, making it when it is not there yet.

    Raises: LabError when this machine cannot make it.
    """
    require_root()
    require_programs("mkfs.ext4", "debugfs", "sfdisk", qemu.PROGRAM)
    stocked = base(PACKAGES)
    wanted = json.dumps([stocked.name, _SHAPE, _ENABLED, _BYTES, _START])
    made = store.trees() / f"disk-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    with locked(store.building(), shared=True), locked(cache_dir() / f"{made.name}.lock"):
        if not made.exists():
            _make(made, stocked)
    return made


def write(disk: Path, files: Mapping[str, tuple[str, int]]) -> None:
    """Write root's files into a disk that is not in use. Params: disk; files, text and mode by path."""
    with tempfile.TemporaryDirectory() as directory:
        commands = []
        for number, (path, (text, mode)) in enumerate(files.items()):
            source = Path(directory) / str(number)
            source.write_text(text)
            source.chmod(mode)
            commands += [f"rm {path}", f"write {source} {path}", f"sif {path} uid 0", f"sif {path} gid 0"]
        script = Path(directory) / "commands"
        script.write_text("\n".join(commands) + "\n")
        said = run(["debugfs", "-w", "-f", script, f"{disk}?offset={_START}"]).stderr
    # "rm" may find nothing, and debugfs ends well whatever happened.
    if wrong := [line for line in said.splitlines()[1:] if line.strip() and not line.startswith("rm: ")]:
        raise LabError(f"{disk} could not be written to: {'; '.join(wrong)}")


def _make(made: Path, stocked: Path) -> None:
    """Make the disk in a directory of another name, and give it its name when it is complete."""
    unfinished, tree = made.with_name(f"{made.name}.unfinished"), made.with_name(f"{made.name}.tree")
    for path in (unfinished, tree):
        store.remove(path)
    store.create(unfinished)
    store.copy(stocked, tree)
    _shape(tree)
    disk = unfinished / NAME
    with disk.open("wb") as handle:
        handle.truncate(_BYTES)
    run(["sfdisk", "-q", disk], input=f"label: dos\nstart={_START // 512}, type=83, bootable\n")
    run(["mkfs.ext4", "-q", "-U", _UUID, "-E", f"offset={_START}", "-d", tree, disk, f"{(_BYTES - _START) // 1024}k"])
    console = unfinished / "console"
    kernel, initrd = (next((tree / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    start = ["-kernel", str(kernel), "-initrd", str(initrd), "-no-reboot"]
    words = f"root=UUID={_UUID} ro console=ttyS0,115200 panic=-1 init={_SETUP}"
    run([*qemu.words(disk, console, 1024), *start, "-append", words], timeout=600)
    if _DONE not in (said := console.read_text(errors="replace")):
        raise LabError(f"the boot loader could not be installed: {said[-2000:]}")
    run(["debugfs", "-w", "-R", f"rm {_SETUP}", f"{disk}?offset={_START}"])
    store.remove(tree)
    unfinished.rename(made)


def _shape(tree: Path) -> None:
    for path, text in _SHAPE.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / _SETUP.lstrip("/")).chmod(0o755)
    for unit, wanted_by in _ENABLED:
        place = tree / "etc/systemd/system" / wanted_by
        place.mkdir(parents=True, exist_ok=True)
        (place / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
