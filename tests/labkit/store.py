"""Where the hosts' file trees live: a btrfs image whose snapshots take no time, or plain copies.

The trees are not on overlayfs, because Docker's overlay2 inside a host would not work on it. ext4 knows neither
snapshots nor reflinks, so the store is a sparse file with btrfs in it, mounted by a loop device. A machine that has
no loop device or no btrfs gets a plain directory and `cp -a`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .tools import LabError, cache_dir, locked, require_programs, run

_POOL_BYTES = 48 * 2**30  # sparse: only what is written takes room
_SUBVOLUME_INODE = 256  # the root of every btrfs subvolume has this number


def trees() -> Path:
    """Return the directory of the trees, mounting the btrfs image if this machine can.

    MAILHOST_LAB_STORE=copy asks for plain copies.
    """
    place = cache_dir() / "trees"
    if _is_btrfs(place):
        return place
    with locked(cache_dir() / "store.lock"):
        place.mkdir(exist_ok=True)
        if not _is_btrfs(place) and not any(place.iterdir()) and os.environ.get("MAILHOST_LAB_STORE") != "copy":
            _mount_pool(place)
    return place


def create(tree: Path) -> None:
    """Make an empty tree."""
    if _is_btrfs(tree.parent):
        run(["btrfs", "-q", "subvolume", "create", tree])
    else:
        tree.mkdir()


def copy(source: Path, target: Path) -> None:
    """Copy a tree with everything: owners, modes, times, links, extended attributes.

    The target appears under its name only when it is complete.
    """
    if not source.is_dir():
        raise LabError(f"there is no tree {source}")
    if _is_subvolume(source):
        run(["btrfs", "-q", "subvolume", "snapshot", source, target])
        return
    unfinished = target.with_name(f"{target.name}.unfinished")
    remove(unfinished)
    run(["cp", "-a", "--reflink=auto", source, unfinished])
    unfinished.rename(target)


def remove(tree: Path) -> None:
    """Remove a tree; one that is not there is fine."""
    if not tree.exists():
        return
    if _is_subvolume(tree):
        # Something inside may have made subvolumes of its own (systemd-tmpfiles and machinectl do on btrfs).
        for inner in sorted(_inner_subvolumes(tree), key=lambda path: len(path.parts), reverse=True):
            run(["btrfs", "-q", "subvolume", "delete", inner])
        run(["btrfs", "-q", "subvolume", "delete", tree])
    else:
        shutil.rmtree(tree)


def unmount() -> None:
    """Unmount the image, once nobody builds a base in it; the next `trees()` mounts it again."""
    place = cache_dir() / "trees"
    with locked(building()), locked(cache_dir() / "store.lock"):
        if place.is_mount():
            run(["umount", place])


def building() -> Path:
    """Return the lock that is held, shared, while something is put into the store that belongs to no lab."""
    return cache_dir() / "building.lock"


def _mount_pool(place: Path) -> None:
    """Mount the image at the place, making it first if need be; a machine that cannot is left with a directory."""
    try:
        require_programs("mkfs.btrfs")
    except LabError:
        return
    image = cache_dir() / "pool.btrfs"
    new = not image.exists()
    if new:
        unfinished = image.with_suffix(".unfinished")
        with unfinished.open("wb") as handle:
            # A file system that promises more than the disk below it has breaks when it is taken at its word.
            handle.truncate(min(_POOL_BYTES, shutil.disk_usage(image.parent).free * 8 // 10))
        run(["mkfs.btrfs", "-q", "-f", "-m", "single", unfinished])
        unfinished.rename(image)
    # nobarrier: a power cut of a lab host is a killed process, this machine's page cache survives it; without the
    # option every fsync of dpkg and PostgreSQL would wait for this machine's disk.
    mounted = run(["mount", "-o", "loop,noatime,nobarrier", image, place], check=False)
    if mounted.returncode != 0 and not new:
        raise LabError(f"{image} cannot be mounted, remove it to start anew: {mounted.stderr.strip()}")
    if mounted.returncode != 0:
        image.unlink()  # no loop devices here, or no btrfs


def _is_btrfs(place: Path) -> bool:
    return place.is_dir() and run(["stat", "-f", "-c", "%T", place]).stdout.strip() == "btrfs"


def _is_subvolume(tree: Path) -> bool:
    return tree.is_dir() and tree.stat().st_ino == _SUBVOLUME_INODE and _is_btrfs(tree)


def _inner_subvolumes(tree: Path) -> list[Path]:
    """Return the subvolumes below a tree, found by their inode number and not by walking into every directory."""
    listed = run(["find", tree, "-mindepth", "1", "-type", "d", "-inum", str(_SUBVOLUME_INODE)]).stdout
    return [Path(line) for line in listed.splitlines()]
