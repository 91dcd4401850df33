"""Names and name lookups: what the host's files should say, and DNS's own packets. Pure."""

import ipaddress
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from mailhost_file import diff

RESOLV_CONF = "/etc/resolv.conf"
UPLINKS = "/run/systemd/resolve/resolv.conf"  # whom systemd-resolved asks, the declared ones before those of leases
HOSTS = "/etc/hosts"
HOSTNAME = "/etc/hostname"
RESOLVED = "/etc/systemd/resolved.conf.d/90-mailhost.conf"
NETWORK_MANAGER = "/etc/NetworkManager/conf.d/90-mailhost.conf"
CLOUD = "/etc/cloud/cloud.cfg.d/99-mailhost.cfg"
CLOUD_HOSTS = "/etc/cloud/templates/hosts.debian.tmpl"
HEAD = "# Managed by Salt (network.interfaces): changes made here are lost.\n"
BEGIN, END = "# BEGIN mailhost: changes made here are lost\n", "# END mailhost\n"

# What writes /etc/resolv.conf on its own, and how each is told to leave it alone: the program that shows that it is
# here, the file, and what the file must say. dhclient-script(8), dhcpcd-run-hooks(8), resolvconf.conf(5) of openresolv,
# NetworkManager.conf(5); Debian's own resolvconf leaves a file alone that is no link of its making. A dhcpcd that runs
# reads its hooks at each renewal, but dhcpcd.conf only when it starts, and telling it to read that takes the host's
# address away for seconds.
WRITERS = {
    "dhclient": ("/usr/sbin/dhclient", "/etc/dhcp/dhclient-enter-hooks.d/mailhost", "make_resolv_conf() { :; }\n"),
    "dhcpcd": ("/usr/sbin/dhcpcd", "/etc/dhcpcd.enter-hook", 'skip_hooks="$skip_hooks resolv.conf"\n'),
    "openresolv": ("/usr/lib/resolvconf/libc", "/etc/resolvconf.conf", "resolvconf=NO\n"),
    "NetworkManager": ("/usr/sbin/NetworkManager", NETWORK_MANAGER, "[main]\ndns=none\n"),
}


# Names.


def with_block(text: str, block: str) -> str:
    """Return a file's text with our part in it, at the top, where the first match counts.

    A first line such as ``## template:jinja`` stays the first.
    """
    rest = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n?", "", text, flags=re.DOTALL)
    first, rest = re.match(r"(## template:[^\n]*\n)?(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{first or ''}{BEGIN}{block}{END}\n{rest}" if block else f"{first or ''}{rest}"


def without_own_name(text: str) -> str:
    """Return hosts(5) without the lines of 127.0.1.1, Debian's address of the host's own name."""
    return "".join(line for line in text.splitlines(keepends=True) if line.split()[:1] != ["127.0.1.1"])


def names(network: Mapping[str, Any], hostname: str) -> dict[str, str]:
    """Return the hostname and fqdn that the host should have, an empty fqdn where its own stays.

    network, hostname
        The section of the pillar, and the name that the host has.
    """
    fqdn = network["fqdn"] or network["hostname"] or ""
    return {"hostname": network["hostname"] or fqdn.split(".")[0] or hostname, "fqdn": fqdn}


def hosts(text: str, names: Mapping[str, str], vpn: Mapping[str, Any]) -> str:
    """Return hosts(5) with the host's own names and those of the VPN.

    text
        The file as it is.
    names
        hostname and fqdn; an empty fqdn leaves the host's own name to the file.
    vpn
        The section of the pillar: every peer is NAME.vpn.
    """
    lines = []
    if names["fqdn"]:
        lines.append(f"127.0.1.1 {' '.join(dict.fromkeys((names['fqdn'], names['hostname'])))}")
    machines = {names["hostname"].split(".")[0]: [vpn["address"], vpn["address6"]]}
    for name, peer in sorted(vpn["peers"].items()):
        machines[name] = [entry for entry in peer["addresses"] if ipaddress.ip_network(entry).num_addresses == 1]
    for name, own in machines.items():
        lines += [f"{address.split('/')[0]} {name}.vpn" for address in own if address]
    kept = without_own_name(text) if names["fqdn"] else text
    return with_block(kept, "".join(f"{line}\n" for line in lines))


def cloud_config() -> str:
    """Return what keeps cloud-init away from the host's names (cc_update_etc_hosts, cc_set_hostname)."""
    return f"{HEAD}preserve_hostname: true\nmanage_etc_hosts: false\n"


def plan_files(wanted: Mapping[str, str], current: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what differs in texts, by path; current is what ``mailhost_file.look`` found."""
    changes = {}
    for path, text in wanted.items():
        found = current[path]
        if found["kind"] == "link":
            changes[path] = f"a file instead of a link:\n{diff('', text)}"
        elif found.get("text") != text:
            changes[path] = diff(found.get("text") or "", text)
    return changes


# Resolvers.


def owner(link: str | None, resolved: str) -> str:
    """Return who writes /etc/resolv.conf: ``systemd-resolved``, or ``nobody`` (then it is ours).

    link
        What the file is a link to, None when it is none.
    resolved
        Whether systemd-resolved is ``active``, in systemd's words.
    """
    through = link is not None and re.search(r"(^|/)(run|usr/lib)/systemd/(resolve/|resolv\.conf)", link)
    return "systemd-resolved" if through and resolved == "active" else "nobody"


def resolver_files(
    resolvers: Iterable[str], search: Iterable[str], who: str, writers: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the texts, by path, that make the host use these resolvers, also after a reboot and a new lease.

    resolvers, search
        Addresses, and domains that are tried for short names.
    who
        What ``owner`` said.
    writers
        Of WRITERS those that are here, each with the text of its file now.
    """
    if who == "systemd-resolved":
        # ~. sends all names to these, and none to what a DHCP lease names for its link (resolved.conf(5)).
        lines = ["[Resolve]", f"DNS={' '.join(resolvers)}", f"Domains={' '.join([*search, '~.'])}"]
        return {RESOLVED: HEAD + "".join(f"{line}\n" for line in lines)}
    lines = [f"nameserver {address}" for address in resolvers]
    if search:
        lines.append(f"search {' '.join(search)}")
    files = {RESOLV_CONF: HEAD + "".join(f"{line}\n" for line in lines)}
    for name, text in writers.items():
        _, path, says = WRITERS[name]
        files[path] = _saying(text or "", says)
    return files


def _saying(text: str, lines: str) -> str:
    """Return a text that has these lines; when it had not, at the top: what stands below may end before them."""
    return text if f"\n{lines}" in f"\n{text}" else f"{HEAD}{lines}\n{text}"


def nameservers(text: str) -> list[str]:
    """Return the addresses that resolv.conf(5) names."""
    return re.findall(r"^nameserver[ \t]+(\S+)", text, re.MULTILINE)


def in_use(wanted: list[str], found: list[str], who: str) -> bool:
    """Return whether the wanted resolvers are asked; systemd-resolved lists those of leases too, behind ours."""
    return wanted == (found[: len(wanted)] if who == "systemd-resolved" else found)


def probe_name(sources: Iterable[str]) -> str:
    """Return a name to look up that this host needs: the one its packages come from, "" when that is an address.

    sources
        The texts of apt's sources.
    """
    for text in sources:
        for name in re.findall(r"^[^#\n]*https?://([^/\s:\]]+)", text, re.MULTILINE):
            if re.search(r"[a-z]", name):
                return str(name)
    return ""


def query(name: str, number: int) -> bytes:
    """Return a DNS question for a name's IPv4 address, or for the root's name servers when it is "" (RFC 1035)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    kind = 1 if name else 2
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def refusal(answer: bytes, number: int) -> str:
    """Return what is wrong with an answer, "" when the name was found."""
    if len(answer) < 12 or struct.unpack(">H", answer[:2])[0] != number:
        return "what came back is no answer"
    code, found = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    words = {0: "", 2: "it failed (SERVFAIL)", 3: "it does not know the name (NXDOMAIN)", 5: "it refused"}
    return words.get(code, f"it answered with error {code}") or ("" if found else "it found nothing")


# Interfaces.


def way_out(routes: Iterable[Mapping[str, Any]], links: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the interface that has the default route: name, gateway, up, mtu; None when there is no such route.

    routes, links
        What ``ip -json route show default`` and ``ip -json link`` print.
    """
    best = min(routes, key=lambda route: route.get("metric", 0), default=None)
    if best is None:
        return None
    (link,) = [link for link in links if link["ifname"] == best["dev"]]
    return {
        "name": best["dev"],
        "gateway": best.get("gateway", "the link itself"),
        "up": "UP" in link["flags"] and "LOWER_UP" in link["flags"],
        "mtu": link["mtu"],
    }
