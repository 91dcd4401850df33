"""Look at Docker and act on its daemon."""

import grp
import http.client
import json
import os
import socket

from salt.exceptions import CommandExecutionError

import mailhost_docker

__all__ = ["ask", "codename", "compose_version", "configure", "has_bridge", "members", "set_member", "tried"]

SOCKET = "/run/docker.sock"


def ask(path):
    """Return what the daemon answers to a question, as data; None when it says that there is no such thing.

    path
        The path of Docker's Engine API, e.g. ``/info``. No program is run for it.

    Raises CommandExecutionError when the daemon does not answer.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.ask /info
    """
    connection = http.client.HTTPConnection("docker", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(60)
        connection.sock.connect(SOCKET)
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandExecutionError(f"Docker does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise CommandExecutionError(f"Docker: {path}: {said.decode(errors='replace').strip()}")
    return json.loads(said)


def codename():
    """Return Debian's name of the release, e.g. trixie.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.codename
    """
    with open("/etc/os-release", encoding="utf-8") as lines:
        return dict(line.strip().split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]


def compose_version():
    """Return the version of ``docker compose``, None when Docker has no such command.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.compose_version
    """
    try:
        return __salt__["mailhost_run.program"](["docker", "compose", "version", "--short"]).strip()
    except CommandExecutionError:
        return None


def tried(settings):
    """Let the daemon read settings with its own command line; nothing is said while it is not installed.

    Raises CommandExecutionError with its words when it refuses them.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.tried '{"live-restore": true}'
    """
    unit = __salt__["mailhost_run.program"](["systemctl", "show", "-P", "ExecStart", mailhost_docker.UNIT])
    check = ["dockerd", "--validate", *mailhost_docker.flags(unit), "--config-file"]
    __salt__["mailhost_file.tried"](mailhost_docker.CONFIG, mailhost_docker.text(settings), check)


def configure(settings, live):
    """Give the daemon its file.

    settings
        All of it.
    live
        Whether the running daemon is told at once that containers outlast it: before the restart that the rest needs.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.configure '{"live-restore": true}' False
    """
    if not os.path.isdir(os.path.dirname(mailhost_docker.CONFIG)):
        __salt__["mailhost_file.make_directory"](os.path.dirname(mailhost_docker.CONFIG))
    __salt__["mailhost_file.replace"](mailhost_docker.CONFIG, mailhost_docker.text(settings))
    if live and __salt__["mailhost_service.look"](mailhost_docker.UNIT)["active"] == "active":
        __salt__["mailhost_service.act"](mailhost_docker.UNIT, "reload")


def has_bridge():
    """Return whether the bridge is there that the daemon makes when it starts.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.has_bridge
    """
    return os.path.isdir(f"/sys/class/net/{mailhost_docker.BRIDGE}")


def members():
    """Return who is in group docker, None when there is no such group.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.members
    """
    try:
        return list(grp.getgrnam(mailhost_docker.GROUP).gr_mem)
    except KeyError:
        return None


def set_member(name, wanted):
    """Take an account into group docker, or out of it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_docker.set_member ada False
    """
    __salt__["mailhost_run.program"](["gpasswd", "-a" if wanted else "-d", name, mailhost_docker.GROUP])
