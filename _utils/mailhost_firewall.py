"""The firewall: the declared matrix, ufw's files as data, and what differs between them. Pure."""

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_chains
import mailhost_iptables
from mailhost_ufw import SSH_COMMENT, Rule, parse

DEFAULTS = "/etc/default/ufw"
CONF = "/etc/ufw/ufw.conf"
RULES = {4: "/etc/ufw/user.rules", 6: "/etc/ufw/user6.rules"}
AFTER = {4: "/etc/ufw/after.rules", 6: "/etc/ufw/after6.rules"}
FILES = (DEFAULTS, CONF, *RULES.values(), *AFTER.values(), "/etc/ufw/before.rules", "/etc/ufw/before6.rules")

# What each setting must be and what it is called; with ufw's own command where it has one.
# MANAGE_BUILTINS=yes would flush Docker's and fail2ban's rules; IPT_SYSCTL names a file that sets log_martians to 0 at
# each start, over what sysctl.d says.
SETTINGS = (
    (DEFAULTS, "IPV6", "yes", "IPv6", None),
    (DEFAULTS, "DEFAULT_INPUT_POLICY", "DROP", "default incoming", ("default", "deny", "incoming")),
    (DEFAULTS, "DEFAULT_OUTPUT_POLICY", "ACCEPT", "default outgoing", ("default", "allow", "outgoing")),
    (DEFAULTS, "DEFAULT_FORWARD_POLICY", "DROP", "default routed", ("default", "deny", "routed")),
    (DEFAULTS, "MANAGE_BUILTINS", "no", "flushing of others' rules", None),
    (DEFAULTS, "IPT_SYSCTL", "", "own sysctl file", None),
    (CONF, "LOGLEVEL", "low", "logging", ("logging", "low")),
)
# What matters of the package's files before anybody has touched them: a dry run plans on it where there is no ufw yet.
PACKAGED = {
    DEFAULTS: 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\nDEFAULT_FORWARD_POLICY="DROP"\n'
    "MANAGE_BUILTINS=no\nIPT_SYSCTL=/etc/ufw/sysctl.conf\n",
    CONF: "ENABLED=no\nLOGLEVEL=low\n",
}

# What a dry run notes where ufw gives a rule another one's place: it then loads all rules of both families again.
LOADED = ("ufw chains", "users'")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What differs (``changes``, for people) and what to do about it, in this order."""

    changes: dict[str, Any]
    files: dict[str, str]
    hooks: dict[int, str]
    reload: bool
    commands: list[list[str]]
    enable: bool
    boot: bool
    undeclared: list[str]
    ssh_public: list[int]

    @property
    def only_opens(self) -> bool:
        """Whether nothing that was let in before can be kept out afterwards."""
        return set(self.changes) <= {"rules added", "started at boot"}


def declared(pillar: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pillar says of the firewall, as ``plan`` takes it."""
    vpn = pillar["vpn"]
    return {
        "services": pillar["firewall"]["rules"],
        "interface": vpn["interface"],
        "networks": [network for network in (vpn["address"], vpn["address6"]) if network],
        "vpn_port": vpn["port"],
        "ssh_port": pillar["ssh"]["port"],
        "prune": pillar["firewall"]["prune"],
    }


def matrix(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all that may come in: WireGuard, SSH by the VPN, and the services.

    SSH is never limited: a salt-ssh run makes several connections in a row, and ufw's limit is six in 30 seconds.
    """
    common = {"limited": False}
    wireguard = {"port": wanted["vpn_port"], "protocol": "udp", "from": "public", "comment": "WireGuard", **common}
    ssh = {"port": wanted["ssh_port"], "protocol": "tcp", "from": "vpn", "comment": "SSH", **common}
    return [wireguard, ssh, *wanted["services"]]


def plan(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> Plan:
    """Return what must be done so that ufw lets in what is declared.

    wanted
        What ``declared`` returned.
    seen
        What ``mailhost_firewall.look`` found.

    Raises CommandExecutionError when a rule that stays would keep the operator's SSH out.
    """
    files = {
        path: text if text is not None else seen["packaged"].get(path, PACKAGED.get(path, ""))
        for path, text in seen["files"].items()
    }
    missing = [path for path, text in seen["files"].items() if text is None and seen["installed"]]
    current = {family: parse(files[path]) for family, path in RULES.items()}
    ports = public_ports(seen["ssh"], wanted["networks"])
    rows = [*(_rule(row, wanted["interface"]) for row in matrix(wanted)), *map(_public_ssh, ports)]
    rules = _rules(rows, current, wanted, ssh_seen=bool(seen["ssh"]))
    _refuse_shut_out(rules, current, ports, wanted)

    changes: dict[str, Any] = {}
    edited = dict(files)
    commands = []
    for path, name, value, called, command in SETTINGS:
        old = setting(files[path], name)
        if old != value:
            changes[called] = {"old": old, "new": value}
            if command:
                commands.append(list(command))
            else:
                edited[path] = with_setting(edited[path], name, value)
    for family, path in AFTER.items():
        own = [str(face.ip) for face in map(ipaddress.ip_interface, wanted["networks"]) if face.version == family]
        addresses = seen["addresses"][family]
        block = mailhost_chains.block(family, wanted["services"], wanted["interface"], own, addresses)
        edited[path] = mailhost_chains.put(files[path], block)
        if edited[path] != files[path]:
            changes[f"containers and VPN address, IPv{family}"] = mailhost_chains.difference(files[path], block)
    if missing:
        changes["files put back"] = "\n".join(missing)
    edits = {path: text for path, text in edited.items() if text != files[path] or path in missing}
    changes |= rules.said()
    enabled = setting(files[CONF], "ENABLED").lower() == "yes"
    policies = (setting(files[DEFAULTS], "DEFAULT_INPUT_POLICY"), setting(files[DEFAULTS], "DEFAULT_FORWARD_POLICY"))
    drifted = enabled and not all(
        mailhost_iptables.loaded(family, files[RULES[family]], files[AFTER[family]], policies, kernel)
        for family, kernel in seen["kernel"].items()
    )
    if drifted:
        changes["rules of the kernel"] = "loaded again, they were not those of ufw's files"
    if not enabled:
        changes["enabled"] = {"old": "no", "new": "yes"}
    if not seen["boot"]:
        changes["started at boot"] = {"old": "no", "new": "yes"}
    return Plan(
        changes=changes,
        files=edits,
        hooks={family: mailhost_iptables.hooks(family, kernel) for family, kernel in seen["kernel"].items()},
        reload=enabled and (drifted or bool(edits)),
        commands=[*rules.commands(), *commands],
        enable=not enabled,
        boot=not seen["boot"],
        undeclared=[] if wanted["prune"] else list(map(str, rules.undeclared)),
        ssh_public=ports,
    )


def limiting(seen: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of an active ufw that limit logins from everywhere at the ports where sshd listens.

    One that was stopped limits nobody, and takes no other rule: its own task starts it.
    """
    if setting(seen["files"][CONF] or "", "ENABLED").lower() != "yes":
        return []
    if not mailhost_iptables.started(4, seen["kernel"][4]):
        return []
    ports = {str(port) for _, port in seen["ssh"]}
    there = dict.fromkeys(rule for path in RULES.values() for rule in parse(seen["files"][path] or ""))
    return [rule for rule in there if rule.action == "limit" and rule.opens_everywhere(ports)]


def unhooked(seen: Mapping[str, Any]) -> bool:
    """Whether a running Docker has lost the rules by which it forwards and redirects what is published."""
    return seen["docker"] and not mailhost_iptables.hooked(seen["kernel"][4], seen["nat"])


def judge(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is not as declared, and what is let in besides: undeclared rules, hand-made files, SSH for now."""
    found = plan(wanted, seen)
    failures = [f"{what}: {_brief(value)}" for what, value in found.changes.items()]
    besides = [f"nobody declared {rule}" for rule in found.undeclared]
    besides += [f"SSH comes in from everywhere while sshd listens on port {port} there" for port in found.ssh_public]
    besides += [f"{path} is not the package's" for path in seen["edited"]]
    for family, kernel in seen["kernel"].items():
        besides += [f"nobody declared {rule} in chain INPUT, IPv{family}" for rule in mailhost_iptables.foreign(kernel)]
        if mailhost_iptables.bypassed(kernel):
            failures.append(f"Docker's ports pass by {mailhost_chains.CONTAINERS}, IPv{family}")
    if unhooked(seen):
        failures.append("Docker's own rules are not in the kernel")
    return failures, besides


def said(wanted: Mapping[str, Any]) -> str:
    """Return what is let in, in one line for people."""
    ports: dict[str, list[str]] = {"public": [], "vpn": []}
    for row in matrix(wanted):
        ports[row["from"]].append(
            f"{row['port']}{'/udp' if row['protocol'] == 'udp' else ''}{' (limited)' if row['limited'] else ''}"
        )
    both = f"public {', '.join(ports['public'])}; by the VPN {', '.join(ports['vpn'])}"
    return f"{both}; nothing else, IPv4 and IPv6, containers too"


def _brief(value: Any) -> str:
    """Return a change in one line."""
    if isinstance(value, dict):
        return f"{value['old'] or 'empty'}, not {value['new'] or 'empty'}"
    return ", ".join(str(value).splitlines())


def setting(text: str, name: str) -> str:
    """Return what a file of shell assignments sets a name to, "" when it does not; the last one counts."""
    found = re.findall(rf"^\s*{name}=(.*)$", text, re.MULTILINE)
    return found[-1].strip().strip("\"'") if found else ""


def with_setting(text: str, name: str, value: str) -> str:
    """Return a file of shell assignments with one name set: in its place, or at the end."""
    line = f"{name}={value}"
    if not re.search(rf"^\s*{name}=", text, re.MULTILINE):
        return text.rstrip("\n") + f"\n{line}\n"
    return re.sub(rf"^\s*{name}=.*$", line, text, flags=re.MULTILINE)


def public_ports(listening: Iterable[tuple[str, int]], networks: Iterable[str]) -> list[int]:
    """Return the ports of the sockets that others than this host and the VPN can reach.

    listening
        Addresses and ports of sockets.
    networks
        The VPN's, each as an address with a prefix length.
    """
    vpn = [ipaddress.ip_interface(network).network for network in networks]
    found = set()
    for text, port in listening:
        address = ipaddress.ip_address(text)
        if not address.is_loopback and not any(address in network for network in vpn):
            found.add(port)
    return sorted(found)


def way_in(wanted: Mapping[str, Any], seen: Mapping[str, Any], came: Mapping[str, Any]) -> dict[str, Any]:
    """Return the addresses and the port by which a new login must work once the firewall is changed.

    came
        Address and port of this host by which the run came in: the way, for as long as sshd listens there.
    """
    here = [came["address"], "0.0.0.0", "::"]
    if any(address in here and port == came["port"] for address, port in seen["ssh"]):
        return {"addresses": [came["address"]], "port": came["port"]}
    if ports := public_ports(seen["ssh"], wanted["networks"]):
        return {"addresses": [*seen["addresses"][4], *seen["addresses"][6]], "port": ports[-1]}
    return {"addresses": [network.split("/")[0] for network in wanted["networks"]], "port": wanted["ssh_port"]}


@dataclasses.dataclass(frozen=True)
class _Rules:
    """What happens to ufw's rules: each list is for people and for ufw alike."""

    added: list[Rule]
    changed: list[tuple[Rule, Rule]]
    removed: list[Rule]
    undeclared: list[Rule]

    def said(self) -> dict[str, str]:
        """Return the changes for people."""
        named = {
            "rules added": map(str, self.added),
            "rules changed": (f"{old} -> {new}" for old, new in self.changed),
            "rules removed": map(str, self.removed),
        }
        lines = {what: "\n".join(words) for what, words in named.items()}
        return {what: text for what, text in lines.items() if text}

    def commands(self) -> list[list[str]]:
        """Return ufw's arguments: what opens first, what closes last."""
        opening = [*self.added, *(new for _, new in self.changed)]
        return [*(rule.command() for rule in opening), *(rule.removal() for rule in self.removed)]


def _rules(
    declared: list[Rule], current: Mapping[int, list[Rule]], wanted: Mapping[str, Any], *, ssh_seen: bool
) -> _Rules:
    """Return what must happen to the rules of both families, which are always the same for what is declared."""
    added: list[Rule] = []
    changed: list[tuple[Rule, Rule]] = []
    for rule in declared:
        there = [[other for other in rules if other.place == rule.place] for rules in current.values()]
        others = [other for others in there for other in others if other != rule]
        if others:
            changed.append((others[0], rule))
        elif not all(there):
            added.append(rule)
    places = {rule.place for rule in declared}
    rest = dict.fromkeys(rule for rules in current.values() for rule in rules if rule.place not in places)
    # SSH's own rules on the public side follow sshd, whoever made them: the provider's image comes with one.
    old_ssh = [rule for rule in rest if ssh_seen and rule.opens_everywhere({"22", str(wanted["ssh_port"])})]
    undeclared = [rule for rule in rest if rule not in old_ssh]
    return _Rules(added, changed, [*old_ssh, *(undeclared if wanted["prune"] else [])], undeclared)


def _rule(row: Mapping[str, Any], interface: str) -> Rule:
    """Return ufw's rule of a row of the matrix."""
    return Rule(
        action="limit" if row["limited"] else "allow",
        protocol=row["protocol"],
        dport=str(row["port"]),
        in_interface=interface if row["from"] == "vpn" else "",
        comment=row["comment"],
    )


def _public_ssh(port: int) -> Rule:
    """Return the rule that lets SSH in from everywhere, for as long as sshd listens there."""
    return Rule(action="allow", protocol="tcp", dport=str(port), comment=SSH_COMMENT)


def _refuse_shut_out(
    rules: _Rules, current: Mapping[int, list[Rule]], ports: list[int], wanted: Mapping[str, Any]
) -> None:
    """Refuse when a rule that stays stands before SSH's and takes its packets; ufw's first match decides."""
    ways = [("", port) for port in ports] or [(wanted["interface"], wanted["ssh_port"])]
    for family, there in current.items():
        going = [*rules.removed, *(old for old, _ in rules.changed)]
        staying = [rule for rule in there if rule not in going]
        for interface, port in ways:
            first = next((rule for rule in staying if rule.takes("tcp", port, interface)), None)
            if first is not None and first.action in ("deny", "reject"):
                raise CommandExecutionError(
                    f"ufw's rule `{first}` (IPv{family}) would keep SSH out on port {port}: "
                    f"remove it with `ufw {' '.join(first.removal()[1:])}` and apply again"
                )
