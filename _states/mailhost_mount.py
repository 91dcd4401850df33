"""What may be done on a file system."""

import mailhost_file
import mailhost_mount
from mailhost_result import explained, outcome

__all__ = ["options"]


@explained
def options(name, mounts):
    """Let file systems in memory (tmpfs) be mounted with options, now and after every boot, by fstab(5).

    mounts
        The options each mount point must have, with commas between; others stay. Where nothing is mounted, nothing is
        done.
    """
    found = __salt__["mailhost_mount.look"]()
    changes, fstab = mailhost_mount.plan(mounts, found["mounts"], found["fstab"])
    if fstab != found["fstab"]:
        changes["fstab"] = mailhost_file.diff(found["fstab"], fstab)

    def act():
        if "fstab" in changes:
            __salt__["mailhost_file.replace"]("/etc/fstab", fstab)
        for path in changes.keys() & mounts.keys():
            __salt__["mailhost_mount.remount"](path, mounts[path])

    return outcome((__opts__, __context__), name, changes, act, "are as declared")
