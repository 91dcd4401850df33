"""Look at the host's names, resolvers and interfaces, and change them."""

import glob
import json
import os
import pathlib
import secrets
import socket
import stat
import time

from salt.exceptions import CommandExecutionError

import mailhost_network

__all__ = ["ask", "full_name", "look", "looked_up", "probe_name", "set_names", "set_resolvers", "way_out"]

TRIES, ANSWER_SECONDS = 2, 2


def look():
    """Return what there is: hostname, files (of names), cloud (cloud-init is here), owner, writers, resolvers.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.look
    """
    names = (mailhost_network.HOSTNAME, mailhost_network.HOSTS, mailhost_network.CLOUD, mailhost_network.CLOUD_HOSTS)
    path = mailhost_network.RESOLV_CONF
    resolved = __salt__["mailhost_service.look"]("systemd-resolved.service")["active"]
    owner = mailhost_network.owner(os.readlink(path) if os.path.islink(path) else None, resolved)
    return {
        "hostname": socket.gethostname(),
        "files": {name: __salt__["mailhost_file.look"](name) for name in names},
        "cloud": os.path.isdir(os.path.dirname(mailhost_network.CLOUD)),
        "owner": owner,
        "writers": {
            name: _text(file)
            for name, (program, file, _) in mailhost_network.WRITERS.items()
            if os.path.exists(program)
        },
        "resolvers": mailhost_network.nameservers(
            _text(mailhost_network.UPLINKS if owner == "systemd-resolved" else path) or ""
        ),
    }


def way_out():
    """Return the interface that has the IPv4 default route: name, gateway, up, mtu; None when there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.way_out
    """
    shown = [
        json.loads(__salt__["mailhost_run.program"](["ip", "-json", *words]) or "[]")
        for words in (("-4", "route", "show", "default"), ("link",))
    ]
    return mailhost_network.way_out(*shown)


def probe_name():
    """Return a name to look up that this host needs: the one its packages come from, "" when that is an address.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.probe_name
    """
    files = ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]
    return mailhost_network.probe_name(_text(file) or "" for file in files)


def ask(resolver, name):
    """Ask one resolver for a name; return "" when it found it, else what is wrong.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.ask 9.9.9.9 debian.org
    """
    number = secrets.randbelow(65536)
    family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
    said = f"no answer in {TRIES * ANSWER_SECONDS} s"
    for _ in range(TRIES):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(ANSWER_SECONDS)
            try:
                sock.connect((resolver, 53))  # so that an unreachable port is told at once
                sock.send(mailhost_network.query(name, number))
                return mailhost_network.refusal(sock.recv(4096), number)
            except TimeoutError:
                continue
            except OSError as error:
                return error.strerror.lower()
    return said


def looked_up(name):
    """Look a name up as every program of the host does; return its first address, "" when there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.looked_up debian.org
    """
    try:
        found = __salt__["mailhost_run.program"](["getent", "ahosts", name], timeout=20)
    except CommandExecutionError:
        return ""
    return found.split()[0]


def full_name():
    """Return what the host calls itself in full, "" when it does not find out.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.full_name
    """
    try:
        return __salt__["mailhost_run.program"](["hostname", "--fqdn"]).strip()
    except CommandExecutionError:
        return ""


def set_names(hostname, files):
    """Give the host its name, now and after a reboot, and put the files about names in place.

    hostname
        The name.
    files
        Texts by path.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.set_names mail '{}'
    """
    for path, text in files.items():
        __salt__["mailhost_file.replace"](path, text)
    if hostname != socket.gethostname():
        socket.sethostname(hostname)


def set_resolvers(files, owner, resolvers, name):
    """Put the files about resolvers in place and see that a lookup works; when it does not, all is as it was.

    files
        Texts by path.
    owner, resolvers
        Who writes /etc/resolv.conf, and the addresses that must be in use afterwards.
    name
        What is looked up; "" looks nothing up.

    Raises CommandExecutionError.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_network.look
    """
    before = {path: _kept(path) for path in files}
    try:
        for path, text in files.items():
            pathlib.Path(path).parent.mkdir(mode=0o755, exist_ok=True)
            __salt__["mailhost_file.replace"](path, text)
        _read_anew(owner, files)
        used = look()["resolvers"]
        if not mailhost_network.in_use(resolvers, used, owner):
            raise CommandExecutionError(f"{', '.join(used) or 'no resolvers'} in use, not {', '.join(resolvers)}")
        if name and not looked_up(name):
            raise CommandExecutionError(f"{name} is not found by them")
    except (CommandExecutionError, OSError) as error:
        for path, kept in before.items():
            _put_back(path, kept)
        _read_anew(owner, files)
        raise CommandExecutionError(f"network.resolvers: {error}; the resolvers before are back") from None


def _read_anew(owner, files):
    """Let whoever answers lookups, and who would write /etc/resolv.conf, read those of these files that are theirs."""
    manager = "NetworkManager.service"
    if mailhost_network.NETWORK_MANAGER in files and __salt__["mailhost_service.look"](manager)["active"] == "active":
        __salt__["mailhost_service.act"](manager, "reload")
    if owner == "systemd-resolved":
        __salt__["mailhost_service.act"]("systemd-resolved.service", "reset-failed", "restart")
        # It is there a moment before it answers.
        time.sleep(0.5)


def _text(path):
    """Return a file's text, None where there is none."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kept(path):
    """Return what is needed to put a path back: a link's target, or a file's text and mode; None where nothing is."""
    if os.path.islink(path):
        return {"link": os.readlink(path)}
    if os.path.exists(path):
        return {"text": _text(path), "mode": stat.S_IMODE(os.stat(path).st_mode)}
    return None


def _put_back(path, kept):
    """Let a path be as it was."""
    if kept is None:
        pathlib.Path(path).unlink(missing_ok=True)
    elif "link" in kept:
        pathlib.Path(path).unlink(missing_ok=True)
        os.symlink(kept["link"], path)
    else:
        __salt__["mailhost_file.replace"](path, kept["text"], mode=kept["mode"])
