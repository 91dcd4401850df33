"""Backups of the database: what pgBackRest and the operator's tool are given, and what differs. Pure."""

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import mailhost_postgres

# The repository on the host, as the container has it: directories of /opt/postgres.
ARCHIVE = "/opt/postgres/wal_archive"
BACKUPS = "/opt/postgres/backups"
# Says whose WAL is in it: pgBackRest's own file.
ARCHIVE_INFO = f"{ARCHIVE}/{mailhost_postgres.STANZA}/archive.info"

TOOL = "/usr/local/sbin/mailhost-pg"
LIBRARY = "/usr/local/lib/mailhost-pg"
MODULES = (
    "__init__",
    "__main__",
    "alarms",
    "backup",
    "check",
    "config",
    "container",
    "drill",
    "export",
    "heartbeat",
    "hook",
    "metrics",
    "pgbackrest",
    "plan",
    "proofs",
    "receiver",
    "recovery",
    "restore",
    "scratch",
    "tail",
    "times",
    "verify",
)
SETTINGS = "/etc/mailhost-pg.json"
STATE = "/var/lib/mailhost-pg"
DRILLS = f"{STATE}/drills.jsonl"

SYSTEMD = "/etc/systemd/system"
SERVICES = {
    "backup": "Base backup of the mail server's PostgreSQL",
    "drill": "Restore drill of the mail server's PostgreSQL",
    "check": "Check of the mail server's PostgreSQL and its backups",
    "verify": "Reading of all backups of the mail server's PostgreSQL",
}
TIMERS = tuple(f"mailhost-pg-{name}.timer" for name in SERVICES)
FAILED = "mailhost-pg-failed@.service"
RECEIVER = "mailhost-pg-tail.service"
RECEIVER_CONTAINER = "mailserver-postgres-tail"
RECEIVER_FILE = f"{SYSTEMD}/{RECEIVER}"
# What pg_receivewal writes.
WAL_FILE = re.compile(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history(\.tmp)?")
# PostgreSQL's own note of the slot.
SLOT = f"{mailhost_postgres.DATA}/pg_replslot/{mailhost_postgres.TAIL}"


def secrets(backup: Mapping[str, Any]) -> dict[str, str]:
    """Return the files beside pgBackRest's settings that these name, by name.

    backup
        The pillar's section.
    """
    offsite = backup["offsite"]
    if offsite["type"] == "sftp":
        # OpenSSH's form for another port than its own (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
        host = offsite["host"] if offsite["port"] == 22 else f"[{offsite['host']}]:{offsite['port']}"
        # libssh2 takes the kind of key that it likes best of those that the server has, and knows only that one then.
        known = "".join(f"{host} {line}\n" for line in offsite["host_keys"])
        return {"offsite_key": offsite["private_key"], "known_hosts": known}
    if offsite["type"] == "s3" and offsite["ca"]:
        return {"offsite_ca.crt": offsite["ca"]}
    return {}


def rendered(backup: Mapping[str, Any]) -> dict[str, tuple[str, str, int | None]]:
    """Return pgBackRest's files: by title their name, their template, and the repository that they are about alone.

    backup
        The pillar's section.
    """
    conf = "pgbackrest.conf"
    each = {f"settings for WAL in repository {one}": (f"archive-{one}.conf", conf, one) for one in (1, 2)}
    return {
        "settings": (conf, conf, None),
        **(each if backup["offsite"]["type"] else {}),
        "archive command": ("archive", "archive", None),
    }


def strays(backup: Mapping[str, Any]) -> list[str]:
    """Return the paths of files that other settings would have beside them."""
    names = {"offsite_key", "known_hosts", "offsite_ca.crt", "archive-1.conf", "archive-2.conf"}
    names -= {*secrets(backup), *(name for name, _, _ in rendered(backup).values())}
    return [f"{mailhost_postgres.PGBACKREST}/{name}" for name in sorted(names)]


def schedules(backup: Mapping[str, Any]) -> dict[str, str]:
    """Return when each service runs, as systemd.time(7) writes it."""
    return {
        "backup": f"*-*-* {backup['at']}:00",
        "drill": f"*-*-* {backup['drill']['at']}:00",
        "check": "*:0/5",
        # After that day's full backup and drill: they have the lock first.
        "verify": f"{backup['full_weekday']} *-*-* {backup['drill']['at']}:30",
    }


def settings(pillar: Mapping[str, Any], uid: int) -> dict[str, Any]:
    """Return what the operator's tool reads: nothing secret."""
    backup = pillar["backup"]
    return {
        "image": mailhost_postgres.own_image(pillar["postgres"]["image"]),
        "uid": uid,
        "container": mailhost_postgres.CONTAINER,
        "unit": mailhost_postgres.UNIT,
        "project": mailhost_postgres.PROJECT,
        "data": mailhost_postgres.DATA,
        "marker": mailhost_postgres.MARKER,
        "archive": ARCHIVE,
        "backups": BACKUPS,
        "sockets": mailhost_postgres.SOCKETS,
        "tail": backup["tail"]["directory"] if backup["tail"]["enabled"] else None,
        "stanza": mailhost_postgres.STANZA,
        "database": mailhost_postgres.DATABASE,
        "state": STATE,
        "full_weekday": backup["full_weekday"],
        "retention_days": backup["retention_days"],
        "archive_timeout": backup["archive_timeout"],
        "offsite": backup["offsite"]["type"],
        "drill": {name: value for name, value in backup["drill"].items() if name != "at"},
        "alarms": backup["alarms"],
        "hook": backup["hook"],
    }


def parse_archive_info(text: str | None) -> dict[str, Any]:
    """Return whose WAL the archive has by its own file: system identifier, and whether it is encrypted.

    None for the identifier where there is no file, or one that cannot be read because it is encrypted.
    """
    if text is None:
        return {"there": False, "encrypted": False, "id": None}
    # What openssl and pgBackRest begin an encrypted file with.
    encrypted = text.startswith("Salted__")
    found = re.search(r"^db-system-id=(\d+)$", text, re.MULTILINE)
    return {"there": True, "encrypted": encrypted, "id": found.group(1) if found else None}


def refuse_cipher(archive: Mapping[str, Any], wanted: bool) -> None:
    """Raise CommandExecutionError when backups are encrypted and should not be, or the other way round.

    pgBackRest keeps a repository as it began; what is in it could not be read any more.
    """
    if archive["there"] and archive["encrypted"] != wanted:
        is_, to_be = ("encrypted", "it is null") if archive["encrypted"] else ("not encrypted", "it is given")
        raise CommandExecutionError(
            f"backup.cipher_pass: {to_be}, and the backups in {BACKUPS} are {is_}, which stays so for good: put it "
            f"back, or move what is in {ARCHIVE} and {BACKUPS} away to begin anew"
        )


def parse_info(said: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the repositories from ``pgbackrest info --output=json``.

    repositories has, by number, the system identifier of the cluster it is for (None: none yet), and why it cannot be
    looked at (None where it can); backups are those of that cluster, oldest first.
    """
    stanza: Mapping[str, Any] = said[0] if said else {"repo": [], "db": [], "backup": []}
    # The newest entry of a repository's history is the cluster that it takes WAL of.
    newest = {db["repo-key"]: db for db in sorted(stanza.get("db", []), key=lambda db: int(db["id"]))}
    repositories = {}
    for repo in stanza["repo"]:
        # 99: pgBackRest could not look; 1 and 3 to 5: nothing, or only a part, is there yet.
        why = sentence(repo["status"]["message"]) if repo["status"]["code"] == 99 else None
        known = newest.get(repo["key"])
        repositories[repo["key"]] = {"id": str(known["system-id"]) if known else None, "why": why}
    backups = [
        backup
        for backup in stanza.get("backup", [])
        if backup["database"]["id"] == newest[backup["database"]["repo-key"]]["id"] and not backup.get("error")
    ]
    return {"repositories": repositories, "backups": backups}


def sentence(message: str) -> str:
    """Return in one line why pgBackRest cannot look at a repository; it prints an S3 server's whole answer."""
    first, _, answer = message.partition("*** Path/Query ***")
    said = re.search(r"<Message>([^<]*)</Message>", answer)
    return first.strip().partition("\n")[0].rstrip(":") + (f": {said[1]}" if said else "")


def plan_stanza(repositories: Mapping[int, Mapping[str, Any]], cluster: str | None) -> dict[str, Any]:
    """Return the changes that let every repository take the cluster's WAL.

    cluster
        Its system identifier, None before there is one.
    """
    new = f"for cluster {cluster}" if cluster else "for cluster"
    changes: dict[str, Any] = {}
    strangers = foreign(repositories, cluster)
    for number, repository in repositories.items():
        if repository["why"] is None and number not in strangers and (cluster is None or repository["id"] != cluster):
            old = f"for cluster {repository['id']}" if repository["id"] else None
            changes[f"repository {number}"] = {"old": old, "new": new}
    return changes


def foreign(repositories: Mapping[int, Mapping[str, Any]], cluster: str | None) -> dict[int, str]:
    """Return the repositories off the host with backups of a cluster that this host never had: number, and cluster.

    The host is new, or the wrong one. What is on the host itself belongs to it: of a cluster that was there before.
    """
    own = {cluster, repositories.get(1, {}).get("id"), None}
    return {number: found["id"] for number, found in repositories.items() if number > 1 and found["id"] not in own}


def refuse_foreign(repositories: Mapping[int, Mapping[str, Any]], cluster: str | None) -> None:
    """Raise CommandExecutionError when a repository off the host has another cluster's backups."""
    for number, there in foreign(repositories, cluster).items():
        raise CommandExecutionError(
            f"backup.offsite: it has the backups of cluster {there}, and nothing of this host's own goes there: "
            f"`mailhost-pg restore --latest --repository {number}` brings that cluster here; else give another path"
        )


def units(backup: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the units of systemd, each with its template and the variables of that, by name."""
    found: dict[str, tuple[str, dict[str, Any]]] = {FAILED: (FAILED, {"tool": TOOL})}
    lines = {
        # A drill that was killed leaves a container and a directory.
        "drill": [f"ExecStopPost={TOOL} drill --clean", "KillMode=mixed"],
        # A warning is an answer, and no failed unit.
        "check": ["SuccessExitStatus=1"],
    }
    if backup["alarms"]["textfile"]:
        # Not there, it is what the check says; systemd would not even start it.
        lines["check"].append(f"ReadWritePaths=-{backup['alarms']['textfile'].rpartition('/')[0] or '/'}")
    for name, title in SERVICES.items():
        when = schedules(backup)[name]
        # The check does not wait for another job, and what hangs is to be told soon.
        limit = "15min" if name == "check" else "6h"
        context = {
            "name": name,
            "title": title,
            "tool": TOOL,
            "when": when,
            "lines": lines.get(name, []),
            "limit": limit,
        }
        found[f"mailhost-pg-{name}.service"] = ("service", context)
        found[f"mailhost-pg-{name}.timer"] = ("timer", context)
    if backup["tail"]["enabled"]:
        found[RECEIVER] = (
            RECEIVER,
            {"tool": TOOL, "container": RECEIVER_CONTAINER, "directory": backup["tail"]["directory"]},
        )
    return found


_SLOT = f"from pg_replication_slots where slot_name = '{mailhost_postgres.TAIL}'"
# What the server says of the role and the slot of the receiver of WAL, in one row.
TAIL_QUESTION = f"""select json_build_object(
    'role', (select json_build_object('login', rolcanlogin, 'replication', rolreplication, 'superuser', rolsuper,
        'createdb', rolcreatedb, 'createrole', rolcreaterole, 'bypassrls', rolbypassrls,
        'password', rolpassword is not null, 'connections', rolconnlimit,
        'member', exists (select from pg_auth_members where member = oid))
        from pg_authid where rolname = '{mailhost_postgres.TAIL}'),
    'slot', exists (select {_SLOT}))"""
_DONE = "select json_build_object('done', true)"
ROLE = {
    "login": True,
    "replication": True,
    "superuser": False,
    "createdb": False,
    "createrole": False,
    "bypassrls": False,
    "password": False,
    # The one before may not have been missed yet when it connects again.
    "connections": 2,
    "member": False,
}


def plan_tail(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the changes that let a receiver of WAL connect. Params: found, the answer to ``TAIL_QUESTION``."""
    role, slot = (found["role"], found["slot"]) if found else (None, False)
    changes: dict[str, Any] = {}
    if role != ROLE:
        changes["role"] = {"old": "with other rights" if role else None, "new": "for replication only"}
    if not slot:
        changes["slot"] = {"old": None, "new": mailhost_postgres.TAIL}
    return changes


def tail_sql(changes: Mapping[str, Any]) -> str:
    """Return the statements that make the changes of ``plan_tail``."""
    name, said = mailhost_postgres.TAIL, []
    if "role" in changes:
        # It owns nothing: what is wrong about it goes with it.
        said += [f"drop role if exists {name}", f"create role {name} login replication connection limit 2"]
    if "slot" in changes:
        # WAL is kept from the last checkpoint on. The receiver may have made it meanwhile.
        made = f"perform pg_create_physical_replication_slot('{name}', true)"
        said.append(f"do $$ begin if not exists (select {_SLOT}) then {made}; end if; end $$")
    return ";\n".join([*said, _DONE])


def plan_no_tail(there: Mapping[str, bool]) -> dict[str, Any]:
    """Return the changes that end what takes WAL as it is written. Params: there, what is there of it."""
    return {name: {"old": "there", "new": None} for name, found in there.items() if found}


# A slot that is read cannot be dropped; its reader has been stopped just now.
NO_TAIL_SQL = f"""do $$ begin
    perform pg_terminate_backend(active_pid, 5000) {_SLOT} and active_pid is not null;
    perform pg_drop_replication_slot(slot_name) {_SLOT};
end $$;
drop role if exists {mailhost_postgres.TAIL};
{_DONE}"""


def numbers(offsite: Any) -> tuple[int, ...]:
    """Return the repositories' numbers. Params: offsite, what is true where there is one off the host."""
    return (1, 2) if offsite else (1,)


def parse_drills(text: str, cluster: str | None) -> dict[int, dict[str, Any]]:
    """Return the last drill of each repository from the tool's file, a line of JSON each.

    finished is when it ended, passed whether it found all as it should be, found what it did not.

    cluster
        The system identifier of the one that this host made: a drill of one before it proves nothing of its backups.

    A line that a power cut left half is passed over.
    """
    last = {}
    for line in text.splitlines():
        try:
            found = json.loads(line)
            finished = datetime.datetime.fromisoformat(found["finished"])
            if found["cluster"] != cluster:
                continue
            last[int(found["repository"])] = {
                "finished": finished,
                "passed": found["passed"] is True,
                "found": list(found["found"]),
            }
        except (AttributeError, ValueError, KeyError, TypeError):
            continue
    return last


def judge_drills(
    drills: Mapping[int, Mapping[str, Any]], drill: Mapping[str, Any], offsite: Any, now: datetime.datetime
) -> dict[int, str]:
    """Return the repositories of which nothing proves that they can be restored from, and why.

    drill
        The pillar's section.
    """
    # As in the tool: that of the repository off the host is made so many days later.
    hours = {1: drill["max_age_hours"], 2: drill["max_age_hours"] + 24 * (drill["offsite_days"] - 1)}
    judged = {number: judge_drill(drills.get(number), hours[number], now) for number in numbers(offsite)}
    return {number: why for number, why in judged.items() if why}


def judge_drill(drill: Mapping[str, Any] | None, max_age_hours: int, now: datetime.datetime) -> str | None:
    """Return what is wrong with a repository's last drill, None when it is a proof. Params: now, with its zone."""
    if drill is None:
        return "no drill yet"
    hours = (now - drill["finished"]).total_seconds() / 3600
    if not drill["passed"]:
        return f"the last drill failed: {'; '.join(drill['found'])}"
    return f"the last drill is {hours:.0f} hours old" if hours > max_age_hours else None


# What the server says of its archiver, in one row. A segment that is not archived yet has a file *.ready. What was
# archived is not asked: the server forgets it in a crash.
QUESTION = f"""select json_build_object(
    'mode', current_setting('archive_mode'),
    'failed', case when last_failed_time > coalesce(last_archived_time, '-infinity') then last_failed_wal end,
    'waiting', (select count(*) from pg_ls_archive_statusdir()
        where name like '%.ready' and modification < now() - interval '1 minute'),
    'slot', (select json_build_object('active', active, 'status', wal_status,
        'idle', extract(epoch from now() - (to_jsonb(s)->>'inactive_since')::timestamptz),
        'behind', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))
        from pg_replication_slots s where slot_name = '{mailhost_postgres.TAIL}')) from pg_stat_archiver"""


def judge_archiver(server: Mapping[str, Any]) -> list[str]:
    """Return in words why WAL does not go into the archive. Params: server, the answer to ``QUESTION``."""
    failures = []
    if server["mode"] != "on":
        failures.append(f"archive_mode is {server['mode']}")
    if server["failed"]:
        failures.append(f"archiving fails at {server['failed']}")
    if server["waiting"]:
        failures.append(f"{server['waiting']} segments have waited for the archive for more than a minute")
    return failures


# A receiver that lost its connection is back before that.
IDLE_SECONDS = 60


def judge_tail(slot: Mapping[str, Any] | None) -> str | None:
    """Return in words why WAL is not taken as it is written. Params: slot, of the answer to ``QUESTION``."""
    if slot is None:
        return "WAL is not streamed: its slot is not there"
    if slot["status"] not in ("reserved", "extended"):
        return f"WAL is not streamed: its slot is {slot['status'] or 'lost'}"
    if not slot["active"] and (slot["idle"] is None or slot["idle"] > IDLE_SECONDS):
        return "WAL is not streamed: nobody reads its slot"
    return None


def judge(
    backup: Mapping[str, Any],
    server: Mapping[str, Any],
    info: Mapping[str, Any],
    timers: Mapping[str, Mapping[str, Any]],
    drills: Mapping[int, Mapping[str, Any]],
    now: datetime.datetime,
) -> tuple[list[str], list[str], str]:
    """Return in words what of the backups is not as declared, what is not proven, and what was seen.

    backup
        The pillar's section.
    server
        The answer to ``QUESTION``.
    info
        What ``mailhost_backup.info`` found.
    timers
        What ``mailhost_service.look`` found, by name.
    drills
        The last ones, as ``parse_drills`` returns them.
    now
        With its zone.
    """
    failures = [
        f"{name} is {unit['active']}, {unit['enabled']}"
        for name, unit in timers.items()
        if (unit["active"], unit["enabled"]) != ("active", "enabled")
    ]
    failures += judge_archiver(server)
    seen = []
    if backup["tail"]["enabled"]:
        if why := judge_tail(server["slot"]):
            failures.append(why)
        seen.append(f"WAL is streamed into {backup['tail']['directory']}")
    for number in numbers(backup["offsite"]["type"]):
        mine = [row for row in info["backups"] if row["database"]["repo-key"] == number]
        why = info["repositories"].get(number, {}).get("why")
        if why:
            failures.append(f"repository {number}: {why}")
        elif not mine:
            failures.append(f"repository {number} has no base backup")
        else:
            hours = (now.timestamp() - mine[-1]["timestamp"]["stop"]) / 3600
            if hours > backup["alarms"]["backup_age_hours"]:
                failures.append(f"repository {number}: the newest base backup is {hours:.0f} hours old")
            seen.append(f"repository {number} has {len(mine)} base backup{'' if len(mine) == 1 else 's'}, and all WAL")
    unproven = judge_drills(drills, backup["drill"], backup["offsite"]["type"], now)
    for number in numbers(backup["offsite"]["type"]):
        if number not in unproven:
            off = f" from repository {number}" if number > 1 else ""
            seen.append(f"restored{off} and compared at {drills[number]['finished']:%Y-%m-%d %H:%M} UTC")
    besides = [why if number == 1 else f"repository {number}: {why}" for number, why in unproven.items()]
    return failures, besides, "; ".join(seen)
