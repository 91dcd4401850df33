"""Look at mount points and change their options."""

import pathlib

import mailhost_mount

__all__ = ["look", "remount"]


def look():
    """Return what is mounted and what fstab says, as texts.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mount.look
    """
    return {"mounts": pathlib.Path("/proc/self/mounts").read_text(), "fstab": pathlib.Path("/etc/fstab").read_text()}


def remount(path, options):
    """Give a mount point options besides the safe ones it has.

    options
        With commas between.

    Raises CommandExecutionError with mount's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mount.remount /dev/shm nosuid,nodev,noexec
    """
    live = mailhost_mount.mounted(look()["mounts"])[path][1]
    kept = [option for option in live if option in ("nosuid", "nodev", "noexec", "ro")]
    wanted = ",".join(dict.fromkeys([*kept, *options.split(",")]))
    # Not by fstab's entry: that would give a file system of systemd's, say /tmp, another size.
    __salt__["mailhost_run.program"](["mount", "-i", "-o", f"remount,{wanted}", path])
