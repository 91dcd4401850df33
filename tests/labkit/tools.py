"""Running commands, taking locks, and installing what the machine lacks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


class LabError(Exception):
    """Something the lab needs is not there or did not work; the message is one sentence for the operator."""


# The program each package is wanted for: what is looked up before apt is asked at all.
PACKAGES = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "sfdisk": "fdisk",
    "qemu-system-x86_64": "qemu-system-x86",
    "dnsmasq": "dnsmasq-base",
    "ping": "iputils-ping",
    "wg": "wireguard-tools",
    "wg-quick": "wireguard-tools",
    "wireguard-go": "wireguard-go",
}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cache_dir() -> Path:
    """Return the directory, outside any checkout, that holds base images and labs."""
    return Path(os.environ.get("MAILHOST_LAB_DIR", "/var/cache/mailhost-lab")).absolute()


def run(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output captured as text.

    Params: argv; input, text for its standard input (nothing otherwise); check, whether a failure raises; timeout in
    seconds; env, the whole environment. Returns the completed process. Raises LabError with the command's own words.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=input or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(words)} did not finish within {timeout} s") from None
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return done


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on a file, made if need be; the kernel drops it when the process dies.

    Params: path; shared, whether others may hold it as well that ask for it shared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def require_root() -> None:
    """Raise LabError unless this process is root."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces, mounts and bridges: run it as root")


def require_programs(*programs: str) -> None:
    """Install the packages of the programs that are missing.

    Raises: LabError that names the program when apt cannot provide it.
    """
    os.environ["PATH"] = os.environ.get("PATH", "") + ":" + _SYSTEM_PATH
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"{missing[0]} is missing and this machine has no apt-get to install it with")
    wanted = sorted({PACKAGES[program] for program in missing})
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Recommends would pull in a desktop's worth of packages, and with wireguard-tools even a kernel.
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted]
    with locked(cache_dir() / "apt.lock"):
        if run(install, check=False, env=env).returncode != 0:
            run(["apt-get", "update", "-q"], env=env)
            run(install, env=env)
    for program in missing:
        if shutil.which(program) is None:
            raise LabError(f"{program} is still missing after installing {PACKAGES[program]}")
