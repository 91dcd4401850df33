"""The script that boots a host: its network, then systemd-nspawn, and again when the host reboots."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from .net import Address

NOT_GIVEN = "sys_time"  # the capability with which a host would set this machine's clock

_SCRIPT = """#!/bin/sh
# Boots the lab host {name}; written by labkit, which finds this process by the path of this file.

# A reboot empties a real host's firewall, routes and interfaces, so every boot gets a new network namespace.
unplug() {{
{unplug}
}}
plug() {{
{plug}
}}

while :; do
    unplug 2>/dev/null
    {sweep}
    plug || exit 1
    # The unified cgroup hierarchy is what this systemd wants; this machine may have the old ones mounted. In a mount
    # namespace of its own nobody else sees the change. Copies of the mounts of other stores go, for they would keep
    # those busy as long as this host runs.
    unshare --mount --propagation private sh -c '
        cat /proc/self/mounts | while read -r _ place kind _; do
            case "$kind $place" in
                "btrfs $1") ;;
                "btrfs "*/trees) umount --lazy "$place" ;;
            esac
        done
        shift
        umount --recursive /sys/fs/cgroup 2>/dev/null
        mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
        # A control group of its own. nspawn makes one called payload below the one it is in: hosts that were started
        # from the same one would share it, and none could stop a unit while another has one of that name (seen).
        cd /sys/fs/cgroup
        for group in {parent} {group}; do
            for controller in $(cat cgroup.controllers); do
                echo "+$controller" >cgroup.subtree_control
            done 2>/dev/null
            mkdir -p "$group" && cd "$group" || exit 1
        done
        echo 0 >cgroup.procs || exit 1
        cd /
        exec "$@"' sh {store} {nspawn}
    # 133 says: rebooted.
    [ $? = 133 ] || break
done
unplug 2>/dev/null
{sweep}
"""
_GROUPS = "mailhost-lab"  # the control group that has those of all hosts
_SWEEP = """
umount --recursive /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd /sys/fs/cgroup || exit 1
# A killed process is in its group for a moment more.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -d "$1/$2" ] || break
    find "$1/$2" -depth -type d -exec rmdir {} + && break
    sleep 0.1
done 2>/dev/null
[ ! -d "$1" ] || rmdir --ignore-fail-on-non-empty "$1"
"""


def sweep(root: Path) -> list[str]:
    """Return the command that removes the control groups of a host that is off. Params: root, its file tree."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SWEEP, "sh", _GROUPS, group(root)]


def group(root: Path) -> str:
    """Return the name of a host's control group, another one for every file tree on this machine."""
    return f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def script(machine: str, root: Path, address: Address) -> str:
    """Return the text of the boot script.

    Params: machine, a name for nspawn; root, the host's file tree; address, its place in the network.
    """
    nspawn = [
        # Without the writable API file systems Docker cannot switch IP forwarding on inside.
        "env",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        f"--machine={machine}",
        f"--network-namespace-path={address.handle}",
        "--system-call-filter=add_key keyctl bpf",
        "--capability=all",
        f"--drop-capability=CAP_{NOT_GIVEN.upper()}",
        *(f"--bind={device}" for device in ("/dev/net/tun", "/dev/fuse") if Path(device).exists()),
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        "-D",
        str(root),
        "-b",
    ]
    return _SCRIPT.format(
        name=machine,
        store=shlex.quote(str(root.parent)),
        unplug="\n".join(f"    {shlex.join(command)}" for command in address.unplug()),
        plug=" &&\n".join(f"    {shlex.join(command)}" for command in address.plug()),
        nspawn=shlex.join(nspawn),
        parent=_GROUPS,
        group=group(root),
        sweep=shlex.join(sweep(root)),
    )
