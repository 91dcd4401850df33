"""A container to be found from outside on a lab host. There is no registry: its image is one program."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .host import Host

# Docker's own way to publish over IPv6 too, which version 26 has not by default; the tree leaves such keys alone.
SIX = {"ipv6": True, "fixed-cidr-v6": "fd00:213:fffe::/64", "experimental": True, "ip6tables": True}
BRIDGES = ("172.17.0.0/16", "fd00:213:fffe::/64")
_CONFIG = "/etc/docker/daemon.json"


def prepare(host: Host) -> None:
    """Let the Docker that the tree has put on a host publish over IPv6 too, and have the image ``tiny``."""
    host.run(["apt-get", "update", "-q"])
    install = ["apt-get", "install", "-qy", "--no-install-recommends", "busybox-static"]
    host.run(["env", "DEBIAN_FRONTEND=noninteractive", *install])
    host.put(json.dumps({**json.loads(host.read(_CONFIG)), **SIX}), _CONFIG)
    host.run(["systemctl", "restart", "docker"])
    host.run(["sh", "-euc", "tar -C / -c bin/busybox usr/bin/busybox | docker import - tiny"])


def everywhere(port: int) -> tuple[str, str]:
    """Return what publishes a port of a container's web server on all addresses of the host, IPv4 and IPv6."""
    return f"0.0.0.0:{port}:80", f"[::]:{port}:80"


def publish(host: Host, name: str, ports: Sequence[str]) -> tuple[str, str]:
    """Start a container that answers on its TCP port 80, and return its own addresses, IPv4 and IPv6.

    Params: name; ports, what ``docker run --publish`` takes.
    """
    options = [word for port in ports for word in ("--publish", port)]
    serve = ["/usr/bin/busybox", "httpd", "-f", "-p", "80"]
    host.run(["docker", "run", "--detach", "--restart", "always", "--name", name, *options, "tiny", *serve])
    form = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.GlobalIPv6Address}}"
    four, six = host.run(["docker", "inspect", "-f", form, name]).stdout.split()
    return four, six
