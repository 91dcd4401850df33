"""PostgreSQL in its container: what is wanted, what is there, and what differs. Pure."""

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_vpn

PROJECT = "/opt/mail_server/postgres"
COMPOSE = f"{PROJECT}/compose.yaml"
CONF = f"{PROJECT}/conf"
TLS = f"{PROJECT}/tls"
CA = f"{PROJECT}/ca"
# What was in place when the container was last seen healthy: it comes back when a change makes it unhealthy.
GOOD = f"{PROJECT}/last-good"
DATA = "/opt/postgres/data"
# A new cluster is made beside its place and moved there whole.
NEW = "/opt/postgres/data.new"
# The system identifier of the cluster that this host made: no other is started in its place.
MARKER = f"{PROJECT}/cluster"
SOCKETS = "/run/mailserver-postgres"
# pgBackRest's settings and secrets, and what it calls the cluster.
PGBACKREST = f"{PROJECT}/pgbackrest"
STANZA = "mail"
# The role and the slot of what takes WAL as it is written.
TAIL = "mailhost_tail"
TMPFILES = "/etc/tmpfiles.d/mailserver-postgres.conf"
CONTAINER = "mailserver-postgres"
# The image that it was last seen healthy with, by a name that nothing is built by.
KEPT = f"{CONTAINER}:last-good"
UNIT = "mailserver-postgres.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
UPGRADE = "docs/operations/upgrade.md"

FILES = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
# Read when the server starts; the others when it is told to read them again.
RESTART = (COMPOSE, f"{CONF}/postgresql.conf", UNIT_FILE)
RELOAD = (f"{CONF}/pg_hba.conf", f"{CONF}/pg_ident.conf", f"{TLS}/server.crt", f"{TLS}/server.key")

DATABASE = "mailserver"
ROLES = ("postfix", "dovecot", "sogo", "mailadmin")

# The image that runs: the declared one with the tool that backups are made with, which the archiver in the container
# runs. An image that has it needs no network. The official image's packages and Debian's are apt's there.
DOCKERFILE = """\
ARG base
FROM ${base}
RUN command -v pgbackrest >/dev/null || { apt-get update && \\
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends pgbackrest && \\
    rm -rf /var/lib/apt/lists/*; }
"""
# Says of what an image was built: one of the same name may have been fetched since.
BASE_LABEL = "mailhost.base"

# The first major version that knows all the settings (wal_compression by zstd).
OLDEST = 15

# The server's own certificate is good for as long as its authority. Both are renewed from half of that on: a host that
# nobody applies anything to goes on for years.
CA_DAYS = 3650
RENEW_DAYS = CA_DAYS // 2


def initdb(major: str) -> list[str]:
    """Return what makes a cluster of a major version, but for its directory."""
    # Sorts by code point whatever the image's C library: another image does not make an index wrong. PostgreSQL has a
    # locale of its own from 17 on; the library's C does the same, and knows letters of ASCII only.
    own = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(major) >= 17 else []
    argv = ["initdb", "--username=postgres", "--data-checksums", "--encoding=UTF8", *own, "--locale=C"]
    return [*argv, "--auth-local=peer", "--auth-host=reject"]


def own_image(image: str) -> str:
    """Return the name of the image that is built from a declared one: its tag, and a hash of all it is made by."""
    tag = image.partition("@")[0].rpartition(":")[2]
    return f"{CONTAINER}:{tag}-{hashlib.sha256((image + DOCKERFILE).encode()).hexdigest()[:8]}"


def context(pillar: Mapping[str, Any], uid: int) -> dict[str, Any]:
    """Return the variables of the project's templates."""
    vpn, wanted = pillar["vpn"], pillar["postgres"]
    faces = mailhost_vpn.addresses(vpn)
    return {
        # A tag without a number is the newest's.
        "alter_system": int(major_of_name(wanted["image"]) or 17) >= 17,
        "image": own_image(wanted["image"]),
        "uid": uid,
        "memory_mb": wanted["memory_mb"],
        "cpu_quota": round(wanted["cpus"] * 100000),
        "interface": vpn["interface"],
        "addresses": [face.split("/")[0] for face in faces],
        "networks": mailhost_vpn.networks(faces),
        "database": DATABASE,
        "roles": list(ROLES),
        "archive_timeout": pillar["backup"]["archive_timeout"],
        "stanza": STANZA,
        "tail": TAIL if pillar["backup"]["tail"]["enabled"] else None,
    }


def names(pillar: Mapping[str, Any]) -> list[str]:
    """Return what the server's certificate is for, as openssl writes it: addresses in the VPN and the host's name."""
    addresses = [f"IP:{face.split('/')[0]}" for face in mailhost_vpn.addresses(pillar["vpn"])]
    return addresses + ([f"DNS:{pillar['network']['fqdn']}"] if pillar["network"]["fqdn"] else [])


def major_of_name(image: str) -> str | None:
    """Return the major version that an image's tag tells, e.g. 17."""
    found = re.search(r":(\d+)[^:/]*$", image.partition("@")[0])
    return found.group(1) if found else None


def parse_image(said: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an image's id, major and full version, from Docker's answer."""
    if said is None:
        return None
    variables = dict(entry.partition("=")[::2] for entry in said["Config"]["Env"] or ())
    return {
        "id": said["Id"],
        "major": variables.get("PG_MAJOR"),
        "version": variables.get("PG_VERSION"),
        "digests": said.get("RepoDigests") or [],
        "base": (said["Config"].get("Labels") or {}).get(BASE_LABEL),
    }


def parse_proxies(said: str) -> dict[str, str]:
    """Return the proxies that ``apt-config shell`` prints, by the name of the variable they are given in."""
    words = (word.partition("=") for word in shlex.split(said))
    return {name: value for name, _, value in words if value and value != "DIRECT"}


def parse_container(said: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a container's state, health, start, process and image, from Docker's answer."""
    if said is None:
        return None
    state = said["State"]
    return {
        "status": state["Status"],
        "health": (state.get("Health") or {}).get("Status", "none"),
        "started": state["StartedAt"],
        "pid": state["Pid"],
        "image": said["Image"],
        "memory": said["HostConfig"]["Memory"],
        "cpu_quota": said["HostConfig"]["CpuQuota"],
    }


def refuse_cluster(found: Mapping[str, Any], major: str | None, image: str) -> str | None:
    """Return the sentence that refuses what lies in the data directory, or None.

    found
        What ``mailhost_postgres.cluster`` found.
    major
        The image's major version, None when it is not known.
    """
    data, marker = found["data"], found["marker"]
    if data["kind"] == "mount":
        return f"{DATA}: is a mount point, which cannot be exchanged whole: mount the disk at /opt/postgres"
    if data["kind"] == "foreign":
        return f"{DATA}: has {data['first']} and is no cluster of PostgreSQL: move it away and apply again"
    if data["kind"] == "empty":
        if marker and found["new"] != marker:
            return (
                f"{DATA}: is empty, and this host made cluster {marker}: is its disk mounted? To begin with an empty "
                f"one remove {MARKER}"
            )
        return None
    if major and data["major"] != major:
        return (
            f"{DATA}: is of PostgreSQL {data['major']}, and postgres.image ({image}) is {major}: a step to another "
            f"major version is made by hand, as {UPGRADE} says"
        )
    if data["id"] != marker:
        made = f"this host made {marker}" if marker else "this host did not make it"
        return (
            f"{DATA}: is cluster {data['id']}, and {made}: to have it started put that number into {MARKER}, else move "
            "it away"
        )
    return None


def plan_running(
    unit: Mapping[str, Any], container: Mapping[str, Any] | None, image: str | None, newer: Iterable[str], reload: bool
) -> dict[str, Any]:
    """Return the changes that let the container run as the files say.

    unit
        What ``mailhost_service.look`` found.
    container, image
        The container as it is, and the id of the image that it should be made from; None where that is not known.
    newer
        Files that changed since it was started.
    reload
        Whether files changed that it would only have to read again.
    """
    changes: dict[str, Any] = {}
    if unit["enabled"] != "enabled":
        changes["enabled"] = {"old": unit["enabled"], "new": "enabled"}
    now = f"{container['status']}, {container['health']}" if container else None
    if unit["active"] != "active" or now != "running, healthy":
        changes["container"] = {"old": now, "new": "running, healthy"}
    elif files := sorted(newer):
        changes["restarted"] = f"for {', '.join(files)}"
    elif image and container and container["image"] != image:
        changes["restarted"] = "for its image"
    elif reload:
        changes["reloaded"] = "for its files"
    return changes


def parse_certificate(said: str) -> dict[str, Any]:
    """Return a certificate's names and its end, from ``openssl x509 -enddate -dateopt iso_8601 -ext …``."""
    end = re.search(r"^notAfter=(\S+ \S+)Z$", said, re.MULTILINE)
    found = re.search(r"Subject Alternative Name:.*\n\s*(.*)", said)
    raw = [name.strip() for name in found.group(1).split(",")] if found else []
    return {"names": [name.replace("IP Address:", "IP:") for name in raw], "end": end.group(1) if end else ""}


def same_names(there: Iterable[str], wanted: Iterable[str]) -> bool:
    """Return whether a certificate is for these names; openssl writes IPv6 addresses out in capitals."""
    return {_name(name) for name in there} == {_name(name) for name in wanted}


def _name(name: str) -> str:
    kind, _, value = name.partition(":")
    return f"{kind}:{ipaddress.ip_address(value) if kind == 'IP' else value.lower()}"


def plan_own_certificate(found: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Return what of the host's own certificates is to be made.

    found
        What ``mailhost_postgres.certificates`` found.
    wanted
        The names that the server's should be for.
    """
    changes: dict[str, Any] = {}
    soon = f"ends within {RENEW_DAYS} days"
    if not found["ca"]:
        changes["ca"] = {"old": None, "new": "an authority of this host's own"}
    elif found["ca_days_left"] < RENEW_DAYS:
        changes["ca"] = {"old": soon, "new": f"with the same key for {CA_DAYS} days"}
    new = f"for {', '.join(wanted)}"
    if not found["server"]:
        changes["certificate"] = {"old": None, "new": new}
    elif found["why"]:
        changes["certificate"] = {"old": found["why"], "new": new}
    elif not same_names(found["names"], wanted):
        changes["certificate"] = {"old": f"for {', '.join(found['names'])}", "new": new}
    elif found["days_left"] < RENEW_DAYS - 1:  # It ends up to a day before its authority.
        changes["certificate"] = {"old": soon, "new": new}
    elif changes or not found["own"]:
        changes["certificate"] = {"old": "of another authority", "new": new}
    return changes


def require_major(major: str | None, image: str) -> None:
    """Raise CommandExecutionError for an image that does not say that it is PostgreSQL's, or of one that is too old."""
    if not major:
        raise CommandExecutionError(f"postgres.image: {image} says nothing of PG_MAJOR: it is no image of PostgreSQL's")
    if refused := refuse_major(major, image):
        raise CommandExecutionError(refused)


def refuse_major(major: str, image: str) -> str | None:
    """Return the sentence that refuses a major version, or None."""
    if int(major) >= OLDEST:
        return None
    return f"postgres.image: {image} is PostgreSQL {major}, and the oldest that is taken is {OLDEST}"


# What the server says of itself, in one row.
QUESTION = """select json_build_object(
    'version', current_setting('server_version'),
    'settings', (select json_object_agg(name, setting) from pg_settings where name in (
        'data_checksums', 'ssl', 'password_encryption', 'wal_level', 'archive_mode', 'listen_addresses',
        'unix_socket_permissions')),
    'errors', (select json_agg(error) from pg_hba_file_rules where error is not null),
    'rules', (select json_agg(concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','),
        address, netmask, auth_method) order by line_number) from pg_hba_file_rules))"""
WANTED = {
    "data_checksums": "on",
    "ssl": "on",
    "password_encryption": "scram-sha-256",
    "wal_level": "replica",
    "archive_mode": "on",
    "unix_socket_permissions": "0700",
}


def judge(pillar: Mapping[str, Any], server: Mapping[str, Any], sockets: str, cluster: Mapping[str, Any]) -> list[str]:
    """Return in words what of a running server is not as declared.

    server
        The answer to ``QUESTION``.
    sockets
        Who listens on the port, as ``ss -Hltn`` prints it.
    cluster
        What ``mailhost_postgres.cluster`` found.
    """
    failures = [
        f"{name} is {server['settings'].get(name)}, not {value}"
        for name, value in WANTED.items()
        if server["settings"].get(name) != value
    ]
    failures += [f"pg_hba.conf: {error}" for error in server["errors"] or ()]
    vpn = mailhost_vpn.addresses(pillar["vpn"])
    rules = ["local all postgres peer"]
    if pillar["backup"]["tail"]["enabled"]:
        rules.append(f"local replication {TAIL} peer")
    for network in map(ipaddress.ip_network, mailhost_vpn.networks(vpn)):
        who = f"hostssl {DATABASE} {','.join(ROLES)}"
        rules.append(f"{who} {network.network_address} {network.netmask} scram-sha-256")
    failures += [f"pg_hba.conf lets in: {rule}" for rule in server["rules"] or () if rule not in rules]
    failures += [f"pg_hba.conf lacks: {rule}" for rule in rules if rule not in (server["rules"] or ())]
    bound = {line.split()[3].rpartition(":")[0].strip("[]") for line in sockets.splitlines()}
    wanted = {face.split("/")[0] for face in vpn}
    failures += [f"listens on {address}" for address in sorted(bound - wanted)]
    failures += [f"does not listen on {address}" for address in sorted(wanted - bound)]
    if cluster["data"].get("id") != cluster["marker"]:
        failures.append(f"{DATA} is not the cluster that this host made")
    return failures


def evidence(
    pillar: Mapping[str, Any], server: Mapping[str, Any], container: Mapping[str, Any], days_left: float | None
) -> tuple[str, list[str]]:
    """Return what was seen of a server that is as declared, and what somebody should do about it."""
    where = ", ".join(face.split("/")[0] for face in mailhost_vpn.addresses(pillar["vpn"]))
    limits = "within its limits" if container["memory"] else "without limits, which this kernel does not have"
    said = (
        f"PostgreSQL {server['version'].split()[0]} is healthy on {where} port 5432 and nowhere else, by TLS and "
        f"scram-sha-256; data checksums; image {container['image'].partition(':')[2][:12]}, {limits}"
    )
    if days_left is None or days_left > 14:
        return said, []
    return said, [f"its certificate ends in {days_left:.0f} days"]
