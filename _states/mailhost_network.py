"""The host's names and resolvers, as declared and seen to work."""

from salt.exceptions import CommandExecutionError

import mailhost_network
from mailhost_result import explained, outcome

__all__ = ["named", "resolvers"]


@explained
def named(name, hostname, fqdn, vpn):
    """Let the host have its name, and know its own and the VPN's names, whatever cloud-init would make of them.

    hostname, fqdn
        The short name and the full one; None leaves each as it is.
    vpn
        The section of the pillar.
    """
    there = __salt__["mailhost_network.look"]()
    names = mailhost_network.names({"hostname": hostname, "fqdn": fqdn}, there["hostname"])
    text = there["files"][mailhost_network.HOSTS].get("text") or ""
    files = {mailhost_network.HOSTS: mailhost_network.hosts(text, names, vpn)}
    if hostname or fqdn:
        files[mailhost_network.HOSTNAME] = f"{names['hostname']}\n"
    if there["cloud"]:
        files[mailhost_network.CLOUD] = mailhost_network.cloud_config()
        template = there["files"][mailhost_network.CLOUD_HOSTS].get("text")
        if template is not None:
            # What a user's own cloud-config says wins over the file above: then cloud-init writes this at each boot.
            files[mailhost_network.CLOUD_HOSTS] = mailhost_network.hosts(template, names, vpn)
    changes = mailhost_network.plan_files(files, there["files"])
    if there["hostname"] != names["hostname"]:
        changes["hostname"] = {"old": there["hostname"], "new": names["hostname"]}

    def act():
        todo = {path: text for path, text in files.items() if path in changes}
        __salt__["mailhost_network.set_names"](names["hostname"], todo)
        said = __salt__["mailhost_network.full_name"]()
        if names["fqdn"] and said != names["fqdn"]:
            raise CommandExecutionError(f"network.fqdn: `hostname --fqdn` says {said or 'nothing'} all the same")

    return outcome((__opts__, __context__), name, changes, act, names["fqdn"] or names["hostname"])


@explained
def resolvers(name, resolvers, search):
    """Let these resolvers, and no others, answer the host's lookups, also after a reboot and with a new DHCP lease.

    Each is asked before anything is touched, and a lookup must work afterwards: else all stays as it was.

    resolvers
        Addresses; None leaves the host's own.
    search
        Domains that are tried for short names, or None.
    """
    there = __salt__["mailhost_network.look"]()
    used = ", ".join(there["resolvers"]) or "none"
    if resolvers is None:
        return outcome((__opts__, __context__), name, {}, lambda: None, f"none declared, the host's own stay: {used}")
    files = mailhost_network.resolver_files(resolvers, search or (), there["owner"], there["writers"])
    current = {path: __salt__["mailhost_file.look"](path) for path in files}
    changes = mailhost_network.plan_files(files, current)
    if not mailhost_network.in_use(resolvers, there["resolvers"], there["owner"]):
        changes["resolvers"] = {"old": used, "new": ", ".join(resolvers)}
    probe = __salt__["mailhost_network.probe_name"]()
    if changes:
        for resolver in resolvers:
            if said := __salt__["mailhost_network.ask"](resolver, probe):
                raise CommandExecutionError(f"network.resolvers: {resolver}: {said}; {used} stay in use")

    def act():
        todo = {path: text for path, text in files.items() if path in changes}
        __salt__["mailhost_network.set_resolvers"](todo, there["owner"], resolvers, probe)

    return outcome((__opts__, __context__), name, changes, act, f"{used} by {there['owner']}")
