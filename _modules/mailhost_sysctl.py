"""Look at the kernel's settings and set them."""

import os
import pathlib

from salt.exceptions import CommandExecutionError

import mailhost_sysctl

__all__ = ["at_boot", "put", "read"]

ROOT = pathlib.Path("/proc/sys")
PLACES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
# systemd(1) makes it where it runs in a container: there all but net.* are settings of the machine around it.
CONTAINER = pathlib.Path("/run/systemd/container")


def read(keys):
    """Return for each key what it stands for: value and writable, by the key's own name.

    ``*`` in a key stands for each network interface there is. A key that the kernel does not have stands for nothing.
    What is the machine's around a container counts as not writable.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sysctl.read '["net.ipv4.ip_forward", "net.ipv4.conf.*.send_redirects"]'
    """
    found = {}
    contained = CONTAINER.exists()
    for key in keys:
        ours = key.startswith("net.") or not contained
        found[key] = {
            name: {"value": " ".join(path.read_text().split()), "writable": ours and os.access(path, os.W_OK)}
            for name, path in _paths(key)
        }
    return found


def at_boot(keys):
    """Return what keys are set to at boot, by the files of sysctl.d(5); None where no file names them.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sysctl.at_boot '["net.ipv4.ip_forward"]'
    """
    # Of one name, the file of the first directory counts; all are read in the order of their names.
    files = {path.name: path for place in reversed(PLACES) for path in pathlib.Path(place).glob("*.conf")}
    texts = [files[name].read_text(encoding="utf-8", errors="replace") for name in sorted(files)]
    found = mailhost_sysctl.settings(texts)
    return {key: found.get(key) for key in keys}


def put(changes, texts):
    """Write files of sysctl.d, remove those whose text is empty, and set keys.

    changes
        The new values, by key: the name of an interface may hold dots.
    texts
        The new texts, by path.

    Raises CommandExecutionError with the kernel's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sysctl.put '{"net.ipv4.ip_forward": "1"}' '{}'
    """
    for path, text in texts.items():
        if text:
            __salt__["mailhost_file.replace"](path, text)
        else:
            os.unlink(path)
    for key, value in changes.items():
        try:
            dict(_paths(key))[key].write_text(value)
        except OSError as error:
            raise CommandExecutionError(f"{key} = {value}: {error.strerror.lower()}") from None


def _paths(key):
    """Return the names and paths a key stands for: an interface's own dots stay, the others are slashes."""
    before, star, after = key.partition("*")
    if star:
        base = ROOT / before.replace(".", "/")
        names = sorted(os.listdir(base)) if base.is_dir() else []
        paths = [(f"{before}{name}{after}", base / name / after.strip(".").replace(".", "/")) for name in names]
        return [(name, path) for name, path in paths if path.exists() and name.split(".")[3] not in ("all", "default")]
    words = key.split(".")
    if words[2:3] == ["conf"] and len(words) > 5:
        words = [*words[:3], ".".join(words[3:-1]), words[-1]]
    path = ROOT.joinpath(*words)
    return [(key, path)] if path.exists() else []
