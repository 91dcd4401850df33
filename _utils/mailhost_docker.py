"""Docker: where it comes from, what its daemon is told, and what differs. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

UNIT = "docker.service"
CONFIG = "/etc/docker/daemon.json"
PID = "/run/docker.pid"
SOURCE = "/etc/apt/sources.list.d/docker.sources"
# What the daemon does to the network when it starts: its bridge, and forwarding, with which the kernel stops taking
# redirects (its Documentation/networking/ip-sysctl.rst, accept_redirects).
BRIDGE = "docker0"
FORWARDS = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.accept_redirects": "0"}
# systemd.unit(5): what stands here holds for every unit whose name begins with docker- and ends in .scope.
SCOPES = "/etc/systemd/system/docker-.scope.d/mailhost.conf"
GROUP = "docker"
# apparmor: where the kernel has AppArmor, Docker starts no container without its apparmor_parser.
DEBIAN = ("docker.io", "docker-cli", "docker-compose", "apparmor")
UPSTREAM = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin", "apparmor")

# Ports of a container are published on this address unless it says another one: on the bridge that is always there, and
# on every network that is made later (hardening.md's N07: the first alone leaves the others open to everybody).
LOOPBACK = "127.0.0.1"
BINDING = "com.docker.network.bridge.host_binding_ipv4"
SETTINGS: dict[str, Any] = {
    # Containers outlast the daemon: its restart and its update stop none.
    "live-restore": True,
    # Published ports are the kernel's business, with the client's own address; no process of root's for each.
    "userland-proxy": False,
    # No program in a container becomes more than it was started as, by set-uid files say.
    "no-new-privileges": True,
    # Containers on the bridge that is always there do not talk to each other; on networks of their own they do.
    "icc": False,
    "ip": LOOPBACK,
    "default-network-opts": {"bridge": {BINDING: LOOPBACK}},
    # A log that nobody bounds fills the disk.
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "5"},
}


def packages(source: Mapping[str, Any]) -> list[str]:
    """Return the packages of Docker. Params: source, the pillar's section docker."""
    return list(UPSTREAM if source["repository"] else DEBIAN)


def other_engine(source: Mapping[str, Any], installed: Mapping[str, str]) -> str | None:
    """Return the sentence that refuses Docker from one place where it is installed from the other, or None.

    The two exclude each other: apt would remove the one with all containers running, to install the other.
    """
    wanted, other = (UPSTREAM[0], DEBIAN[0]) if source["repository"] else (DEBIAN[0], UPSTREAM[0])
    if other not in installed or wanted in installed:
        return None
    return (
        f"docker.repository: asks for {wanted}, and {other} is installed: stop the containers and remove it yourself "
        f"(apt-get remove {other}), what is in /var/lib/docker stays"
    )


def sources(source: Mapping[str, Any], codename: str) -> str:
    """Return the text of apt's source of Docker's own repository, with its key in it.

    sources.list(5): a key in Signed-By is a multi-line field, an empty line of it a dot.
    """
    key = "\n".join(f" {line}" if line.strip() else " ." for line in source["repository_key"].strip().splitlines())
    fields = {"Types": "deb", "URIs": source["repository"], "Suites": codename, "Components": "stable"}
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return f"# Managed by Salt.\n{lines}Signed-By:\n{key}\n"


def parse(text: str | None) -> dict[str, Any]:
    """Return what the daemon's file says, {} where there is none.

    Raises CommandExecutionError when it is no JSON object: what somebody wrote there must not be lost.
    """
    try:
        found = json.loads(text) if text and text.strip() else {}
    except ValueError as error:
        raise CommandExecutionError(f"{CONFIG}: is no JSON ({error}): repair it or move it away") from None
    if not isinstance(found, dict):
        raise CommandExecutionError(f"{CONFIG}: is not a JSON object: repair it or move it away")
    return found


def merged(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the daemon's settings with the wanted ones laid over them; settings that are nobody's of ours stay.

    Not so the options of another log driver: with one that ours does not know, the daemon does not start, though
    ``dockerd --validate`` lets it pass.
    """
    ours = found.get("log-driver", SETTINGS["log-driver"]) == SETTINGS["log-driver"]
    return _laid_over({name: value for name, value in found.items() if ours or name != "log-opts"}, SETTINGS)


def _laid_over(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with others laid over them, also within those that are mappings in both."""
    return {
        **found,
        **{
            name: _laid_over(found[name], value)
            if isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
            else value
            for name, value in wanted.items()
        },
    }


def plan(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the daemon that differ, by name."""
    wanted = merged(found)
    return {name: {"old": found.get(name), "new": wanted[name]} for name in SETTINGS if found.get(name) != wanted[name]}


def makes_rules(settings: Mapping[str, Any]) -> bool:
    """Whether the daemon, with these settings, filters by rules of iptables: they may leave that to others."""
    return bool(settings.get("iptables", True)) and settings.get("firewall-backend", "iptables") == "iptables"


def text(settings: Mapping[str, Any]) -> str:
    """Return settings as the daemon's file has them."""
    return json.dumps(settings, indent=2) + "\n"


def flags(exec_start: str) -> list[str]:
    """Return the daemon's own words on the command line, from ``systemctl show -P ExecStart``.

    A setting of the file that is given there too is an error to the daemon. Variables, which systemd fills in, are left
    out.
    """
    argv = exec_start.partition("argv[]=")[2].partition(" ;")[0].split()[1:]
    return [word for word in argv if not word.startswith("$")]


def plan_group(admin: str, wanted: bool, members: list[str] | None) -> dict[str, Any]:
    """Return whether the admin has to come into group docker, or go out of it. Params: members, None without group."""
    is_in = admin in (members or [])
    return {} if is_in == wanted else {admin: {"old": is_in, "new": wanted}}


def judge(found: Mapping[str, Any], file: Mapping[str, Any]) -> list[str]:
    """Return in words what the running daemon does not do.

    found
        What the daemon says of itself (``docker info``).
    file
        What its file says: for what the daemon does not tell.
    """
    failures = [f"{CONFIG}: {name} is not as declared" for name in plan(file)]
    if not found["LiveRestoreEnabled"]:
        failures.append("containers would stop with the daemon")
    if "name=no-new-privileges" not in found["SecurityOptions"]:
        failures.append("containers may get new privileges")
    return failures


def judge_bridge(bridge: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return in words what the network that is always there does not do: what is wrong, and what will come right.

    The daemon does not make it anew under running containers: it has the declared settings once they have been stopped
    and the daemon restarted.
    """
    options, containers = bridge["Options"], sorted(each["Name"] for each in bridge["Containers"].values())
    wrong = []
    if options.get(BINDING) != LOOPBACK:
        wrong.append(f"ports are published on {options.get(BINDING)} by default")
    if options.get("com.docker.network.bridge.enable_icc") != "false":
        wrong.append("containers on the default bridge talk to each other")
    if not wrong or not containers:
        return wrong, []
    return [], [f"{', '.join(wrong)} until {', '.join(containers)} is stopped and {UNIT} restarted"]
