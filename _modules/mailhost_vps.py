"""Look at what the host is: its system and its size."""

import os
import pathlib
import re

import mailhost_vps

__all__ = ["look"]


def look():
    """Return the system's name, id and version, and how many CPUs and bytes of memory and disk it has.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vps.look
    """
    release = mailhost_vps.os_release(pathlib.Path("/etc/os-release").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    root = os.statvfs("/")
    return {
        "os": release.get("PRETTY_NAME", "something without a name"),
        "id": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "cpus": os.cpu_count(),
        "memory_gb": 1024 * int(memory[1]),
        "disk_gb": root.f_blocks * root.f_frsize,
    }
