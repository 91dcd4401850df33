"""A host that is there already: its key, and what the tree will refuse, change and leave alone of it. Pure.

``PROBE`` runs on the host, from standard input, and writes nothing there.
"""

import base64
import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_storage
import mailhost_sudo
import mailhost_vps

# What sshd offers, the best first: one key is pinned.
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
# Salt, what it unpacks, and the packages of all tasks.
FREE_GB = 5
CONTAINERS = ("lxc", "lxc-libvirt", "openvz", "docker", "podman", "wsl")

PROBE = (
    f"directories = {mailhost_storage.paths()}\n"
    + r"""
import glob, json, os, pathlib, pwd, re, subprocess

def text(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""

def said(*argv):
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout

def access(path):
    there = os.stat(path)
    return f"{there.st_uid}:{there.st_gid} {there.st_mode & 0o7777:04o}"

def filled(path):
    try:
        return bool(os.listdir(path))
    except OSError:
        return False

def keys(home):
    return re.findall(r"(?:ssh-|ecdsa-|sk-)\S+ ([A-Za-z0-9+/=]{40,})", text(home + "/.ssh/authorized_keys"))

root = os.statvfs("/")
people = [entry for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000 or entry.pw_uid == 0]
packages = re.findall(r"^Package: (\S+)\nStatus: \S+ \S+ installed$", text("/var/lib/dpkg/status"), re.M)
sshd = [line.split(" ", 1) for line in said("/usr/sbin/sshd", "-T").splitlines() if " " in line]
print(json.dumps({
    "release": text("/etc/os-release"),
    "meminfo": text("/proc/meminfo"),
    "cpus": os.cpu_count(),
    "disk": [root.f_blocks * root.f_frsize, root.f_bavail * root.f_frsize],
    "virtual": said("systemd-detect-virt").strip(),
    "users": {entry.pw_name: keys(entry.pw_dir) for entry in people},
    "uids": {str(entry.pw_uid): entry.pw_name for entry in pwd.getpwall()},
    "sudoers": sorted(os.listdir("/etc/sudoers.d")) if os.path.isdir("/etc/sudoers.d") else [],
    "packages": packages,
    "sshd": {name: value for name, value in sshd},
    "sockets": said("ss", "-H", "-l", "-n", "-t", "-u", "-p"),
    "ufw": text("/etc/ufw/ufw.conf"),
    "ufw_rules": sum(text(f"/etc/ufw/{name}.rules").count("### tuple ###") for name in ("user", "user6")),
    "units": said("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "--type=service"),
    "directories": {
        path: {"access": access(path), "empty": not filled(path)} for path in directories if os.path.isdir(path)
    },
    "containers": len(glob.glob("/var/lib/docker/containers/*")),
    "wireguard": glob.glob("/etc/wireguard/*.conf"),
    "filled": [path for path in (*directories, "/var/lib/postgresql", "/srv") if filled(path)],
}))
"""
)
# Beside mail itself, packages of what the tree brings or what stands in its way.
KNOWN = {
    "docker-ce": "Docker from its own repository",
    "docker.io": "Docker",
    "podman": "Podman",
    "postgresql": "PostgreSQL",
    "postgresql-17": "PostgreSQL",
    "postfix": "Postfix",
    "dovecot-core": "Dovecot",
    "fail2ban": "fail2ban",
    "firewalld": "firewalld",
    "nginx": "nginx",
    "apache2": "Apache",
}
# Packages that do not go with what the tree wants: what that is, and where.
_MTA = "control V12, by which no mail server listens unasked (1.3.1)"
IN_THE_WAY = {
    "iptables-persistent": "ufw (1.5.1)",
    **dict.fromkeys(("chrony", "ntpsec", "openntpd"), "systemd-timesyncd (1.3.1, control V10)"),
    "syslog-ng-core": "rsyslog (1.3.1, control V09)",
    **dict.fromkeys(("exim4-daemon-light", "exim4-daemon-heavy"), _MTA),
}
Lines = list[str]


class Unusable(ValueError):
    """The host or what was typed cannot be used; the message is one sentence."""


def addresses(typed: str) -> list[str]:
    """Return the addresses that the operator typed, with commas between them; raises Unusable."""
    found = []
    if not typed:
        raise Unusable("give the host's address, HOST=203.0.113.5")
    for word in typed.split(","):
        try:
            found.append(str(ipaddress.ip_address(word.strip())))
        except ValueError:
            raise Unusable(f"HOST: {word.strip()!r} is not an IP address") from None
    return found


def fingerprint(key: str) -> str:
    """Return a public key's fingerprint, as ssh-keygen -l prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def keys(scanned: str) -> list[str]:
    """Return the host keys of ssh-keyscan's output, the best first."""
    rows = [line.split() for line in scanned.splitlines() if line.strip() and not line.startswith("#")]
    found = {row[1]: f"{row[1]} {row[2]}" for row in rows if len(row) == 3}
    return [found[kind] for kind in KEY_TYPES if kind in found]


def pinned(name: str, address: str, shown: Lines, known: str | None, typed: str) -> str:
    """Return the host key to pin: the one of the fingerprint that was typed, or the one that is known already.

    name, address
        Of the host, for the words.
    shown
        The keys that the host shows.
    known
        The key that the roster has.
    typed
        The fingerprint, with or without ``SHA256:``; "" when none was.

    Raises Unusable when it is not the host's, or when nothing was compared yet.
    """
    if not shown:
        raise Unusable(f"{address}: no SSH server answers with a key that can be pinned")
    prints = {fingerprint(key): key for key in shown}
    if typed:
        wanted = typed if typed.startswith("SHA256:") else f"SHA256:{typed}"
        if wanted.rstrip("=") in prints:
            return prints[wanted.rstrip("=")]
        raise Unusable(
            f"{address} shows {' and '.join(prints)}, and not {typed}: either the fingerprint is another host's, or "
            "somebody else answers there"
        )
    if known:
        if known in shown:
            return known
        raise Unusable(
            f"{address} shows {' and '.join(prints)}, and the roster knows {name} by {fingerprint(known)}: if the host "
            "was installed anew, give its FINGERPRINT"
        )
    best = shown[0]
    file = "ssh_host_" + {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(best.split()[0], "ecdsa") + "_key.pub"
    raise Unusable(
        f"{address} shows {fingerprint(best)}: compare it with what `ssh-keygen -lf /etc/ssh/{file}` prints on the "
        f"provider's console, and run again with FINGERPRINT={fingerprint(best)}"
    )


def facts(printed: str) -> dict[str, Any]:
    """Return what the probe printed; raises Unusable when that is nothing."""
    try:
        found = json.loads(printed)
    except ValueError:
        raise Unusable("the host does not say what it is: is python3 installed there? Salt needs it") from None
    release = mailhost_vps.os_release(found["release"])
    memory = next((line.split()[1] for line in found["meminfo"].splitlines() if line.startswith("MemTotal:")), "0")
    return {
        **found,
        "os": release.get("PRETTY_NAME", "something without a name"),
        "id": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "memory_gb": 1024 * int(memory),
        "disk_gb": found["disk"][0],
        "listening": _listening(found["sockets"]),
        "services": {line.split()[0] for line in found["units"].splitlines() if line.split()},
    }


def _listening(sockets: str) -> list[tuple[str, int, str, str]]:
    """Return what listens to others: protocol, port, address, program; from ss(8)."""
    found = set()
    for line in sockets.splitlines():
        words = line.split()
        if len(words) < 5:
            continue
        address, _, port = words[4].rpartition(":")
        address = address.strip("[]").partition("%")[0]
        local = address != "*" and ipaddress.ip_address(address).is_loopback
        if not local and port.isdigit():
            program = words[6].split('"')[1] if len(words) > 6 and '"' in words[6] else "?"
            found.add((words[0], int(port), address, program))
    return sorted(found)


def refusals(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> Lines:
    """Return why the tree cannot be applied to the host as it is."""
    lines = []
    if not mailhost_vps.is_debian(found):
        lines.append(f"it is {found['os']}; the tree is for Debian {mailhost_vps.DEBIAN}")
    if found["virtual"] in CONTAINERS:
        lines.append(f"it is a container ({found['virtual']}) and has no kernel of its own for WireGuard and firewall")
    free = found["disk"][1] / 10**9
    if free < FREE_GB:
        lines.append(f"{free:.1f} GB of its disk are free, and {FREE_GB} are needed")
    if "sftp" not in found["sshd"].get("subsystem", ""):
        lines.append("its sshd has no subsystem sftp, by which Salt sends files")
    admin, removed = pillar["access"]["admin"], pillar["access"]["default_user"]
    holder = found["uids"].get(str(admin["uid"]))
    if holder not in (None, admin["name"], removed):
        lines.append(f"uid {admin['uid']}, wanted for {admin['name']}, is {holder}'s: set access.admin.uid")
    lines += [
        f"{what} is active and would fight with ufw"
        for what in ("firewalld",)
        if f"{what}.service" in found["services"]
    ]
    return lines


def changes(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> Lines:
    """Return what of the host will be otherwise once the tree is applied, where somebody might count on it."""
    admin, removed = pillar["access"]["admin"]["name"], pillar["access"]["default_user"]
    lines = []
    if removed in found["users"]:
        lines.append(f"account {removed} is removed with its home (1.2.2, access.default_user)")
    others = sorted(set(found["users"]) - {"root", admin, removed})
    if others and found["sshd"].get("allowusers") != admin:
        lines.append(f"{', '.join(others)} can no longer log in by SSH: only {admin} can (1.3.1)")
    named = {key.split()[1] for key in pillar["access"]["admin"]["ssh_keys"]}
    if stray := [key for key in found["users"].get(admin, []) if key not in named]:
        lines.append(f"{len(stray)} keys of {admin} that access.admin.ssh_keys does not name are removed (1.2.4)")
    if found["sshd"].get("permitrootlogin") != "no":
        lines.append("root no longer logs in by SSH (1.2.4)")
    if found["sshd"].get("port") != str(pillar["ssh"]["port"]):
        lines.append(f"sshd moves to port {pillar['ssh']['port']}, in the end on the VPN only (1.3.1, 1.3.4)")
    strays = [name for name in found["sudoers"] if name not in ("README", *mailhost_sudo.OURS)]
    if strays:
        lines.append(f"of /etc/sudoers.d, what no package brought is put away: {', '.join(strays)} (1.2.7)")
    return [*lines, *_storage(pillar, found)[0], *_firewall(pillar, found)]


def stops(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> Lines:
    """Return at which tasks the tree will stop until somebody has decided; those before them are applied."""
    there = [package for package in IN_THE_WAY if package in found["packages"]]
    clashes = [f"{package} is in the way of {IN_THE_WAY[package]}: remove it" for package in sorted(there)]
    return [*_storage(pillar, found)[1], *clashes]


def _storage(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Lines, Lines]:
    """Return whose directories become somebody else's, and why not."""
    uid = mailhost_storage.image_uid(pillar["postgres"]["image"])
    wanted = mailhost_storage.owners(pillar["storage"]["vmail_uid"], uid)
    there = {path: access for path, access in wanted.items() if path in found["directories"]}
    try:
        changed = mailhost_storage.plan_owners(there, found["directories"])
    except CommandExecutionError as error:
        return [], [f"1.4.2: {error}"]
    return [f"{path}, {change['old']}, becomes {change['new']} (1.4.2)" for path, change in changed.items()], []


def _firewall(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> Lines:
    """Return what the firewall will do to what listens now."""
    rules = {(row["protocol"], row["port"]): row["from"] for row in pillar["firewall"]["rules"]}
    rules[("udp", pillar["vpn"]["port"])] = "public"
    own = {("tcp", 22), ("tcp", pillar["ssh"]["port"])}
    lines = []
    if "ENABLED=yes" in found["ufw"]:
        done = "removed" if pillar["firewall"]["prune"] else "kept and reported (firewall.prune removes them)"
        lines.append(f"ufw is on with {found['ufw_rules']} rules: those that nobody declared are {done} (1.5.1)")
    else:
        lines.append("ufw is switched on, and lets in what firewall.rules declares (1.5.1)")
    seen: set[tuple[str, int]] = set()
    for protocol, port, _, program in found["listening"]:
        way = rules.get((protocol, port))
        # Clients of DHCP and of time listen too; the firewall knows their answers.
        if (protocol, port) in own | {("udp", 68), ("udp", 546), ("udp", 123)} | seen or way == "public":
            continue
        seen.add((protocol, port))
        to = "is open to the VPN only" if way == "vpn" else "is closed to everybody, but for rules of ufw that stay"
        lines.append(f"port {port}/{protocol} ({program}) {to} (1.5.1)")
    return lines


def kept(found: Mapping[str, Any]) -> Lines:
    """Return what is on the host that a pristine one has not, and that the tree leaves as it is or builds on."""
    lines = [f"{path} is not empty: what is in it stays" for path in found["filled"]]
    there = sorted({what for package, what in KNOWN.items() if package in found["packages"]})
    if there:
        lines.append(f"installed: {', '.join(there)}")
    if found["containers"]:
        lines.append(f"{found['containers']} containers of Docker; ports they publish come under the firewall (1.5.1)")
    lines += [f"{path} exists" for path in found["wireguard"]]
    return lines


def report(pillar: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return what a person should know before the tree is applied, line by line."""
    size = [*mailhost_vps.smaller(pillar["provision"], found)]
    lines = [f"{mailhost_vps.said(found)}{''.join(f'; {less}' for less in size)}"]
    for head, rows in (
        ("The tree refuses it:", refusals(pillar, found)),
        ("The tree will stop at:", stops(pillar, found)),
        ("The tree will change:", changes(pillar, found)),
        ("Stays:", kept(found)),
    ):
        lines += [head, *(f"- {row}" for row in rows)] if rows else []
    return "\n".join(lines)


def entry(hosts: Iterable[str], environment: str, key: str) -> dict[str, Any]:
    """Return what the roster keeps of the host."""
    return {"host": list(hosts), "environment": environment, "host_key": key}


def another(made: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether the roster means another host than this one by the name.

    A host may move to another address and it may be installed anew, but not both at once; and it stays in its
    environment.

    made, entry
        What the roster has, empty for nothing, and what it is to have.
    """
    if not made:
        return False
    moved = not set(made["host"]) & set(entry["host"])
    return bool(made["environment"] != entry["environment"] or (moved and made.get("host_key") != entry["host_key"]))
