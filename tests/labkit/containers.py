"""Docker in a lab host, and a container to be found from outside. There is no registry: its image is one program."""

from __future__ import annotations

from collections.abc import Sequence

from .host import Host

PACKAGES = ("docker.io", "docker-cli", "busybox-static")
# Docker's own way to publish over IPv6 too, which version 26 has not by default.
SIX = '{"ipv6": true, "fixed-cidr-v6": "fd00:213:fffe::/64", "experimental": true, "ip6tables": true}\n'
BRIDGES = ("172.17.0.0/16", "fd00:213:fffe::/64")


def engine(host: Host) -> None:
    """Let a host have Docker, publishing over IPv4 and IPv6, and the image ``tiny``."""
    host.run(["apt-get", "update", "-q"])
    host.run(
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qy", "--no-install-recommends", *PACKAGES]
    )
    host.put(SIX, "/etc/docker/daemon.json")
    host.run(["systemctl", "restart", "docker"])
    host.run(["sh", "-euc", "tar -C / -c bin/busybox usr/bin/busybox | docker import - tiny"])


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
