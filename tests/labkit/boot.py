"""The script that boots a host: its network, then systemd-nspawn, and again when the host reboots."""

from __future__ import annotations

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
        exec "$@"' sh {store} {nspawn}
    # 133 says: rebooted.
    [ $? = 133 ] || break
done
unplug 2>/dev/null
"""


def script(machine: str, root: Path, address: Address) -> str:
    """Return the text of the boot script.

    Params: machine, a name for nspawn; root, the host's file tree; address, its place in the network.
    """
    nspawn = [
        # Without the writable API file systems Docker cannot switch IP forwarding on inside.
        "env",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes",
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
    )
