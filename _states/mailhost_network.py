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
    wanted = hostname or (fqdn.split(".")[0] if fqdn else None)
    names = {"hostname": wanted or there["hostname"].split(".")[0], "fqdn": fqdn or wanted or ""}
    text = there["files"][mailhost_network.HOSTS].get("text") or ""
    files = {mailhost_network.HOSTS: mailhost_network.hosts(text, names, vpn)}
    if wanted:
        files[mailhost_network.HOSTNAME] = f"{wanted}\n"
    if there["cloud"]:
        files[mailhost_network.CLOUD] = mailhost_network.cloud_config()
        template = there["files"][mailhost_network.CLOUD_HOSTS].get("text")
        if template is not None:
            # What a user's own cloud-config says wins over the file above: then cloud-init writes this at each boot.
            files[mailhost_network.CLOUD_HOSTS] = mailhost_network.hosts(template, names, vpn)
    changes = mailhost_network.plan_files(files, there["files"])
    if wanted and there["hostname"] != wanted:
        changes["hostname"] = {"old": there["hostname"], "new": wanted}

    def act():
        __salt__["mailhost_network.set_names"](wanted, {path: files[path] for path in files if path in changes})
        said = __salt__["mailhost_run.program"](["hostname", "--fqdn"]).strip()
        if fqdn and said != fqdn:
            raise CommandExecutionError(f"network.fqdn: after all is in place `hostname --fqdn` says {said}")

    return outcome((__opts__, __context__), name, changes, act, f"{names['fqdn'] or names['hostname']}")


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
    if there["resolvers"] != resolvers:
        changes["resolvers"] = {"old": used, "new": ", ".join(resolvers)}
    probe = __salt__["mailhost_network.probe_name"]()
    if changes:
        for resolver in resolvers:
            if said := __salt__["mailhost_network.ask"](resolver, probe):
                raise CommandExecutionError(f"network.resolvers: {resolver}: {said}; {used} stay")

    def act():
        todo = {path: text for path, text in files.items() if path in changes}
        __salt__["mailhost_network.set_resolvers"](todo, there["owner"], resolvers, probe)

    return outcome((__opts__, __context__), name, changes, act, f"{used} by {there['owner']}")
