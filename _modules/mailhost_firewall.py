"""Look at the firewall and change it, by ufw itself."""

import json
import os
import pathlib
import re

from salt.exceptions import CommandExecutionError

import mailhost_chains
import mailhost_docker
import mailhost_firewall
import mailhost_forecast
import mailhost_iptables
import mailhost_ufw
from mailhost_ufw import Rule

__all__ = ["apply", "let_in", "look", "try_out"]

SAVE = {4: "iptables-save", 6: "ip6tables-save"}
RESTORE = {4: "iptables-restore", 6: "ip6tables-restore"}
PACKAGED = pathlib.Path("/usr/share/ufw")
UNIT = "ufw.service"


def look():
    """Return what there is: ufw's files by path (None: absent), those edited by hand, the kernel's rules by family,
    those of table nat, whether a running Docker makes rules, whether ufw starts at boot, where sshd listens, and the
    host's public addresses by family.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_firewall.look
    """
    there = os.path.exists("/usr/sbin/ufw")
    files = {path: __salt__["mailhost_file.look"](path).get("text") for path in mailhost_firewall.FILES}
    packaged = _packaged() if there else {}
    return {
        "installed": there,
        "files": files,
        "boot": __salt__["mailhost_service.look"](UNIT)["enabled"] == "enabled" if there else True,
        "kernel": {family: _saved(program) for family, program in SAVE.items()} if there else {},
        "nat": _saved(SAVE[4], "nat") if there else "",
        "docker": there and _docker_makes_rules(),
        "packaged": packaged,
        "edited": _edited(files, packaged) if there else [],
        "ssh": _listening("sshd"),
        "addresses": _public_addresses(),
    }


def try_out(files, commands):
    """Refuse what cannot be done, before anything is: iptables-restore reads the blocks, ufw makes a dry run.

    files, commands
        Texts by path, and argument lists of ufw. Where ufw's own files are missing it can try nothing.

    Raises CommandExecutionError with the program's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_firewall.try_out '{}' '[["allow", "25/tcp"]]'
    """
    run = __salt__["mailhost_run.program"]
    for family, path in mailhost_firewall.AFTER.items():
        if path in files:
            run([RESTORE[family], "--noflush", "--test"], stdin=mailhost_chains.found(files[path]))
    if all(map(os.path.exists, mailhost_firewall.FILES)):
        for command in commands:
            run(["ufw", "--dry-run", *command])


def apply(files, hooks, reload, commands, enable, boot):
    """Change the firewall as planned: files, what opens, what closes, and only then is it switched on.

    Raises CommandExecutionError with the program's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_firewall.apply '{}' '{}' False '[["allow", "25/tcp"]]' False False
    """
    run = __salt__["mailhost_run.program"]
    for path, text in files.items():
        __salt__["mailhost_file.replace"](path, text, mode=0o640 if path.endswith(".rules") else 0o644)
    for family, text in hooks.items():
        if text:
            run([RESTORE[family], "--noflush"], stdin=text)
    if reload:
        run(["ufw", "reload"])
    for command in commands:
        run(["ufw", *command])
    if boot:
        __salt__["mailhost_service.act"](UNIT, "unmask", "enable")
    if enable:
        run(["ufw", "--force", "enable"])
        # ufw has loaded its rules by itself; what asks systemd should hear that the firewall is up.
        __salt__["mailhost_service.act"](UNIT, "start")


def let_in(port, protocol, comment, interface=""):
    """Let a port in where ufw is on and keeps it out; return whether that was so. A dry run only notes it.

    For states that move a service before the firewall's own state runs: a provider's image may come with ufw on.

    Raises CommandExecutionError when ufw is enabled and stopped without such a rule.

    port, protocol, interface
        What to let in; interface "" is any.
    comment
        The rule's, as in the declared matrix.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_firewall.let_in 2288 tcp SSH
    """
    texts = {path: __salt__["mailhost_file.look"](path).get("text") or "" for path in mailhost_firewall.FILES}
    if mailhost_firewall.setting(texts[mailhost_firewall.CONF], "ENABLED").lower() != "yes":
        return False
    rule = Rule("allow", protocol, str(port), in_interface=interface, comment=comment)
    if all(mailhost_ufw.admits(texts[path], protocol, port, interface) for path in mailhost_firewall.RULES.values()):
        return False
    if not mailhost_iptables.started(4, _saved(SAVE[4])):
        # It takes no rule now, and would keep people out from its next start on.
        raise CommandExecutionError(
            f"ufw: is enabled, stopped, and without a rule for port {port}/{protocol}: `systemctl start ufw` or "
            "`ufw disable`, and apply again"
        )
    if __opts__["test"]:
        mailhost_forecast.note(__context__, "ufw rules", rule.line(), True)
        if any(other.place == rule.place for text in texts.values() for other in mailhost_ufw.parse(text)):
            mailhost_forecast.note(__context__, *mailhost_firewall.LOADED, True)
    else:
        __salt__["mailhost_run.program"](["ufw", *rule.command()])
    return True


def _saved(program, table="filter"):
    """Return a table of the kernel's rules as iptables-save prints it."""
    return __salt__["mailhost_run.program"]([program, "-t", table])


def _docker_makes_rules():
    """Whether Docker runs, and its file does not tell it to leave the kernel's rules alone."""
    try:
        program = pathlib.Path(f"/proc/{pathlib.Path(mailhost_docker.PID).read_text().strip()}/comm").read_text()
    except OSError:
        return False
    text = __salt__["mailhost_file.look"](mailhost_docker.CONFIG).get("text")
    return program.strip() == "dockerd" and mailhost_docker.makes_rules(mailhost_docker.parse(text))


def _packaged():
    """Return the texts of ufw's files as the package has them, where it has them."""
    there = {
        path: PACKAGED / os.path.basename(path) for path in mailhost_firewall.FILES if path.startswith("/etc/ufw/")
    }
    return {path: original.read_text(encoding="utf-8") for path, original in there.items()}


def _edited(files, packaged):
    """Return the files of rules that are neither the package's nor, in our block, ours; and hooks that would be run."""
    names = ("before.rules", "before6.rules", "after.rules", "after6.rules")
    found = [
        path
        for path in (f"/etc/ufw/{name}" for name in names)
        if mailhost_chains.without(files[path] or "") != packaged[path]
    ]
    return found + [path for path in ("/etc/ufw/before.init", "/etc/ufw/after.init") if os.access(path, os.X_OK)]


def _listening(program):
    """Return address and port of each TCP socket that processes of this name listen on."""
    sockets = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("comm").read_text().strip() != program:
                continue
            for entry in process.joinpath("fd").iterdir():
                sockets.update(re.findall(r"^socket:\[(\d+)\]$", os.readlink(entry)))
        except OSError:
            continue  # it has just ended
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:  # TCP_LISTEN
                found.add(mailhost_iptables.socket_address(words[1]))
    return sorted(map(list, found))


def _public_addresses():
    """Return the global addresses, by family, of the interfaces with a default route."""
    routes = [line.split() for line in pathlib.Path("/proc/net/route").read_text().splitlines()[1:]]
    interfaces = {route[0] for route in routes if route[1] == route[7] == "00000000"}
    if os.path.exists("/proc/net/ipv6_route"):
        routes = [line.split() for line in pathlib.Path("/proc/net/ipv6_route").read_text().splitlines()]
        interfaces |= {route[9] for route in routes if route[0] == "0" * 32 and route[1] == "00"} - {"lo"}
    found = {4: [], 6: []}
    for link in json.loads(__salt__["mailhost_run.program"](["ip", "-j", "address", "show"])):
        for address in link["addr_info"] if link["ifname"] in interfaces else ():
            if address["scope"] == "global" and not address.get("temporary"):
                found[4 if address["family"] == "inet" else 6].append(address["local"])
    return {family: sorted(addresses) for family, addresses in found.items()}
