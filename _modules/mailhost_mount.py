"""Look at mount points and change their options."""

import pathlib

__all__ = ["look", "remount"]


def look():
    """Return what is mounted and what fstab says, as texts.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mount.look
    """
    return {"mounts": pathlib.Path("/proc/self/mounts").read_text(), "fstab": pathlib.Path("/etc/fstab").read_text()}


def remount(path, options):
    """Give a mount point options besides those it has.

    Raises CommandExecutionError with mount's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mount.remount /dev/shm '["noexec"]'
    """
    live = next(line.split()[3] for line in reversed(look()["mounts"].splitlines()) if line.split()[1] == path)
    # "relatime" and the like are no options to repeat for every file system; the safe ones that are on are kept.
    kept = [option for option in live.split(",") if option in ("nosuid", "nodev", "noexec", "ro")]
    wanted = ",".join(dict.fromkeys([*kept, *options]))
    __salt__["mailhost_run.program"](["mount", "-o", f"remount,{wanted}", path])
