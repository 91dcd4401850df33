"""What may be done on a file system."""

import mailhost_file
import mailhost_mount
from mailhost_result import explained, outcome

__all__ = ["options"]


@explained
def options(name, wanted):
    """Let a file system of the kernel's own (tmpfs) be mounted with options, now and after every boot, by fstab(5).

    name
        The mount point. What is not mounted is only written into fstab.
    wanted
        The options it must have; others stay.
    """
    found = __salt__["mailhost_mount.look"]()
    fstab = mailhost_mount.with_entry(found["fstab"], name, "tmpfs", wanted)
    changes = mailhost_mount.plan(name, wanted, found["mounts"])
    if fstab != found["fstab"]:
        changes["fstab"] = mailhost_file.diff(found["fstab"], fstab)

    def act():
        if "fstab" in changes:
            __salt__["mailhost_file.replace"]("/etc/fstab", fstab)
            __salt__["mailhost_run.program"](["systemctl", "daemon-reload"])
        if "options" in changes:
            __salt__["mailhost_mount.remount"](name, list(wanted))

    return outcome((__opts__, __context__), name, changes, act, f"has {','.join(wanted)}")
