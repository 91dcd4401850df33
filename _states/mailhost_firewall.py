"""The firewall lets in what is declared, and the operator is not cut off by it."""

import dataclasses

from salt.exceptions import CommandExecutionError

import mailhost_firewall
import mailhost_forecast
import mailhost_iptables
import mailhost_ufw
from mailhost_result import explained, outcome

__all__ = ["declared", "docker_hooked", "logins_unlimited"]


@explained
def declared(name, admin, services, interface, networks, vpn_port, ssh_port, prune):
    """Let ufw deny what comes in or is routed, but for what is declared, over IPv4 and IPv6 alike.

    Ports that Docker publishes are held to the same rows. While sshd listens on the public side its port stays open
    there; once it does not, the rule goes.

    admin
        Who must be able to log in afterwards.
    services
        Rows of port, protocol, from (public or vpn), limited, comment.
    interface, networks
        The VPN's interface, and the host's addresses in it with their prefix lengths.
    vpn_port, ssh_port
        The ports of WireGuard, let in from everywhere, and of SSH, let in by the VPN.
    prune
        Whether rules that nobody declared are removed; else they stay and the task's proof names them.
    """
    seen = __salt__["mailhost_firewall.look"]()
    if not seen["installed"] and "ufw" not in mailhost_forecast.applied(__context__, "packages", {}):
        raise CommandExecutionError("ufw is not installed")
    # What earlier states of a dry run would have made of sshd, and let in for it.
    seen["ssh"] = mailhost_forecast.applied(__context__, "listening", {"sshd": seen["ssh"]}).get("sshd", [])
    if let_in := list(mailhost_forecast.applied(__context__, "ufw rules", {})):
        for path in mailhost_firewall.RULES.values():
            seen["files"][path] = mailhost_ufw.with_rules(seen["files"][path] or "", let_in)
    if mailhost_forecast.applied(__context__, mailhost_firewall.LOADED[0], {}):
        for family, path in mailhost_firewall.RULES.items():
            kernel = seen["kernel"][family]
            seen["kernel"][family] = mailhost_iptables.users_loaded(family, seen["files"][path] or "", kernel)
    wanted = {
        "services": services,
        "interface": interface,
        "networks": networks,
        "vpn_port": vpn_port,
        "ssh_port": ssh_port,
        "prune": prune,
    }
    plan = mailhost_firewall.plan(wanted, seen)

    def change():
        __salt__["mailhost_firewall.apply"](plan.files, plan.hooks, plan.reload, plan.commands, plan.enable, plan.boot)

    def act():
        __salt__["mailhost_firewall.try_out"](plan.files, plan.commands)
        if plan.only_opens:
            change()
            return
        way = mailhost_firewall.way_in(wanted, seen, __salt__["mailhost_sshd.way_in"]())
        paths = ["/etc/ufw", "/etc/default/ufw"]
        __salt__["mailhost_guard.commit"]("the firewall", paths, change, {"user": admin, **way}, ["ufw.service"])

    return outcome((__opts__, __context__), name, plan.changes, act, mailhost_firewall.said(wanted))


@explained
def docker_hooked(name):
    """Let Docker's own rules be in the kernel, where somebody flushed them: it is restarted, its containers run on.

    name
        Docker's unit. This stands after ufw's own state: ports are published when what filters them is there.
    """
    restarted = name in mailhost_forecast.applied(__context__, "started", {})
    lost = not restarted and mailhost_firewall.unhooked(__salt__["mailhost_firewall.look"]())

    def act():
        __salt__["mailhost_service.act"](name, "restart")
        now = __salt__["mailhost_firewall.look"]()
        # It has not put what filters its ports before its own rules if containers were running.
        hooks = {family: mailhost_iptables.containers_first(kernel) for family, kernel in now["kernel"].items()}
        __salt__["mailhost_firewall.apply"]({}, hooks, False, [], False, False)
        if mailhost_firewall.unhooked(now):
            raise CommandExecutionError(f"{name}: makes no rules, also after a restart")

    changes = {"restarted": "its own rules were not in the kernel"} if lost else {}
    return outcome((__opts__, __context__), name, changes, act, "has its rules in the kernel")


@explained
def logins_unlimited(name):
    """Let ufw, where it is on already, not limit logins: six in 30 seconds are what a run itself makes.

    A provider's image may come with such a rule for SSH; the firewall's own task removes it when sshd has moved.
    """
    limits = mailhost_firewall.limiting(__salt__["mailhost_firewall.look"]())
    rules = {old: dataclasses.replace(old, action="allow") for old in limits}
    changes = {"rules changed": "\n".join(f"{old} -> {new}" for old, new in rules.items())} if rules else {}
    if __opts__["test"]:
        for new in rules.values():
            mailhost_forecast.note(__context__, "ufw rules", new.line(), True)
            mailhost_forecast.note(__context__, *mailhost_firewall.LOADED, True)

    def act():
        commands = [new.command() for new in rules.values()]
        __salt__["mailhost_firewall.apply"]({}, {}, False, commands, False, False)

    return outcome((__opts__, __context__), name, changes, act, "no rule of ufw's limits them")
