"""The mail database: its roles and their rights, its migrations, and the files services connect with. Pure."""

import base64
import dataclasses
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME = "mailserver"
# Where PostgreSQL is on the host, for root; and its certificate authority, for services.
SOCKET_DIRECTORY = "/run/mailserver-postgres"
DATA_DIRECTORY = "/opt/postgres/data"
CA = "/opt/mail_server/postgres/tls/ca.crt"
PORT = 5432
# The schemas that are ours: tables and views, what backups are measured by, what the extension brings, and SOGo's own.
SCHEMA, BACKUP_SCHEMA, EXTENSION_SCHEMA, SOGO_SCHEMA = "mail", "backup", "crypto", "sogo"
OWNER = "mailserver_owner"
# All of salt/database/migrations, in their order; a number is never given twice and a file never changed.
MIGRATIONS = ("0001_tables", "0002_lookups", "0003_verify_password", "0004_heartbeat", "0005_destinations")
# Taken for the length of a migration's transaction, so that two runs cannot make the same one; any number will do.
LOCK = 0x6D61696C


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of the database: who logs in as it, and what limits it.

    ``service`` is the directory below /opt/mail_server with its connection files; "" for a role nobody logs in as.
    """

    name: str
    service: str
    connections: int
    settings: Mapping[str, str]


# Together below PostgreSQL's 100 connections, of which some are the administrator's.
ROLES = (
    Role(OWNER, "", -1, {}),
    Role(
        "postfix",
        "postfix",
        30,
        {"default_transaction_read_only": "on", "search_path": "mail", "statement_timeout": "10s"},
    ),
    Role(
        "dovecot",
        "dovecot",
        30,
        {"default_transaction_read_only": "on", "search_path": "mail", "statement_timeout": "10s"},
    ),
    Role(
        "sogo",
        "sogo",
        25,
        {
            "idle_in_transaction_session_timeout": "60s",
            "search_path": "sogo, mail",
            "statement_timeout": "60s",
        },
    ),
    Role(
        "mailadmin",
        "mailadmin",
        5,
        {
            "idle_in_transaction_session_timeout": "60s",
            "search_path": "mail",
            "statement_timeout": "60s",
        },
    ),
)
LOGINS = tuple(role for role in ROLES if role.service)
BY_NAME = {role.name: role for role in ROLES}

_USERS = f"TABLE {SCHEMA}.virtual_users"
_TABLES = (f"TABLE {SCHEMA}.virtual_domains", _USERS, f"TABLE {SCHEMA}.virtual_aliases")
_LOOKUPS = (f"TABLE {SCHEMA}.active_domains", f"TABLE {SCHEMA}.active_mailboxes")
_INFO = f"TABLE {SCHEMA}.user_mailbox_info"
_VERIFY = f"FUNCTION {SCHEMA}.verify_password(text,text)"

# Who may do what: (role, privilege, object), the privilege on a column as SELECT(column). Nothing for PUBLIC.
Grant = tuple[str, str, str]
GRANTS: frozenset[Grant] = frozenset(
    [
        *((role.name, "CONNECT", f"DATABASE {NAME}") for role in LOGINS),
        *((role.name, "USAGE", f"SCHEMA {SCHEMA}") for role in LOGINS),
        *(("postfix", "SELECT", table) for table in (_TABLES[0], _TABLES[2], *_LOOKUPS)),
        *(
            ("postfix", f"SELECT({column})", _USERS)
            for column in ("email", "domain", "active", "quota_bytes", "quota_messages")
        ),
        ("postfix", "EXECUTE", f"FUNCTION {SCHEMA}.alias_destinations(text)"),
        ("postfix", "EXECUTE", f"FUNCTION {SCHEMA}.recipient_refusal(text)"),
        ("dovecot", "SELECT", _INFO),
        *(("sogo", f"SELECT({column})", _USERS) for column in ("email", "domain", "active", "password")),
        ("sogo", "UPDATE(password)", _USERS),
        *(
            ("mailadmin", privilege, table)
            for table in _TABLES
            for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
        ),
        *(("mailadmin", "SELECT", table) for table in (*_LOOKUPS, _INFO)),
        ("mailadmin", "EXECUTE", _VERIFY),
        ("mailadmin", "EXECUTE", f"FUNCTION {SCHEMA}.alias_destinations(text)"),
    ]
)
# What belongs to whom; everything else in the schemas mail and backup belongs to the owner too.
OWNERS = {
    f"DATABASE {NAME}": OWNER,
    f"SCHEMA {SCHEMA}": OWNER,
    f"SCHEMA {BACKUP_SCHEMA}": OWNER,
    f"SCHEMA {EXTENSION_SCHEMA}": OWNER,
    f"SCHEMA {SOGO_SCHEMA}": "sogo",
}


# Roles.


def wanted_role(role: Role) -> dict[str, Any]:
    """Return the attributes a role has, as ``mailhost_database.look`` reads them."""
    return {
        "login": bool(role.service),
        "superuser": False,
        "createdb": False,
        "createrole": False,
        "replication": False,
        "bypassrls": False,
        "inherit": True,
        "connections": role.connections,
        "valid_until": None,
        "member_of": [],
        "members": [],
        "settings": dict(role.settings),
    }


def plan_roles(current: Mapping[str, Mapping[str, Any]], passwords: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what differs of the roles, as a state's changes.

    current
        Attributes and ``verifier`` by role; others than ours are nobody's business here.
    passwords
        The password by role, None where it is yet to be made.
    """
    changes: dict[str, Any] = {}
    for role in ROLES:
        found, wanted = current.get(role.name), wanted_role(role)
        if found is None:
            changes[role.name] = {"old": None, "new": "a role that logs in" if role.service else "a role without login"}
            continue
        for attribute, value in wanted.items():
            if found[attribute] != value:
                changes[f"{role.name}: {attribute}"] = {"old": found[attribute], "new": value}
        if role.service and not verifies(found["verifier"], passwords[role.name]):
            old = "another one" if found["verifier"] else None
            changes[f"{role.name}: password"] = {"old": old, "new": f"that of {pgpass_path(role)}"}
        if not role.service and found["verifier"]:
            changes[f"{role.name}: password"] = {"old": "one", "new": None}
    return changes


def verifies(verifier: str | None, password: str | None) -> bool:
    """Whether a role's stored verifier is that of a password (RFC 5802; PostgreSQL's pg_authid.rolpassword)."""
    matched = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$:]+)\$([^$:]+):([^$:]+)", verifier or "")
    if not matched or password is None:
        return False
    # Passwords here are ASCII: saslprep leaves them as they are.
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(matched[2]), int(matched[1]))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return hmac.compare_digest(stored, base64.b64decode(matched[3]))


# Rights.


def plan_owners(current: Mapping[str, str]) -> dict[str, Any]:
    """Return what belongs to another role than it should, by object; what is missing is somebody else's to make."""
    return {
        thing: {"old": owner, "new": OWNERS.get(thing, OWNER)}
        for thing, owner in current.items()
        if owner != OWNERS.get(thing, OWNER)
    }


def plan_grants(current: Iterable[Grant]) -> tuple[list[Grant], list[Grant]]:
    """Return the rights to grant and those to revoke, sorted."""
    found = set(current)
    return sorted(GRANTS - found), sorted(found - GRANTS)


def taken_along(revoked: Iterable[Grant]) -> list[Grant]:
    """Return the declared rights on columns that go too when rights are revoked, sorted.

    REVOKE of a privilege on a table takes it on each of its columns as well (PostgreSQL documentation, "REVOKE").
    """
    gone = {(role, privilege.removesuffix(" WITH GRANT OPTION"), thing) for role, privilege, thing in revoked}
    return sorted(
        (role, privilege, thing)
        for role, privilege, thing in GRANTS
        if "(" in privilege and (role, privilege.partition("(")[0], thing) in gone
    )


def grant_changes(granted: Iterable[Grant], revoked: Iterable[Grant]) -> dict[str, Any]:
    """Return rights to grant and revoke as a state's changes: by role, sentences before and after."""
    changes: dict[str, dict[str, list[str]]] = {}
    for end, rights in (("old", revoked), ("new", granted)):
        for role, privilege, thing in rights:
            changes.setdefault(f"{role}: rights", {"old": [], "new": []})[end].append(f"{privilege} on {thing}")
    return changes


# Migrations.


def checksum(text: str) -> str:
    """Return what a migration's file is recognised by."""
    return hashlib.sha256(text.encode()).hexdigest()


def pending(files: Mapping[str, str], applied: Mapping[str, str]) -> list[str]:
    """Return the names of the migrations that are not applied yet, in their order.

    files
        Their texts by name, in order.
    applied
        Checksums by name, as recorded in the database.

    Raises ValueError with a sentence when the database's history is not the beginning of ours.
    """
    for name, recorded in applied.items():
        if name not in files:
            raise ValueError(f"{name}: is applied in the database and not in this tree: the tree is older than it")
        if recorded != checksum(files[name]):
            raise ValueError(f"{name}: has been changed since it was applied; put it back, and write a new migration")
    names = list(files)
    if missed := [name for name in names[: len(applied)] if name not in applied]:
        raise ValueError(f"{missed[0]}: stands before {list(applied)[-1]}, which is applied; give it the next number")
    return names[len(applied) :]


# Connection files.


def directory(role: Role) -> str:
    """Return the directory of a role's connection files."""
    return f"/opt/mail_server/{role.service}/database"


def pgpass_path(role: Role) -> str:
    """Return the path of a role's password file."""
    return f"{directory(role)}/pgpass"


def service_path(role: Role) -> str:
    """Return the path of a role's connection service file."""
    return f"{directory(role)}/pg_service.conf"


def pgpass(role: Role, address: str, password: str) -> str:
    """Return libpq's password file with a role's password (PostgreSQL documentation, "The Password File")."""
    return f"{address.replace(':', chr(92) + ':')}:{PORT}:{NAME}:{role.name}:{password}\n"


def password_in(text: str | None) -> str | None:
    """Return the password of a password file; None when there is none that we could have written."""
    matched = re.fullmatch(r"(?:[^:\\\n]|\\:)+:\d+:\w+:\w+:([A-Za-z0-9._~-]+)\n?", text or "")
    return matched[1] if matched else None


def service(role: Role, address: str) -> str:
    """Return libpq's connection service file of a role; it has no secret (documentation, same name)."""
    lines = {
        "host": address,
        "port": PORT,
        "dbname": NAME,
        "user": role.name,
        "passfile": pgpass_path(role),
        "sslmode": "verify-full",
        "sslrootcert": CA,
        "channel_binding": "require",
        "connect_timeout": 10,
        "application_name": role.name,
    }
    return f"[{NAME}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())


# Verification.

REPORT = "/opt/mail_server/postgres/verification.txt"
NOT_BUILT = "not built yet"


def claim(sentence: str, holds: bool | None, evidence: str) -> dict[str, Any]:
    """Return one claim: what is said, whether it holds (None: what it is about is not built yet), and what was seen."""
    return {"claim": sentence, "holds": holds, "evidence": evidence}


def report(claims: Iterable[Mapping[str, Any]]) -> str:
    """Return claims as the report, a line each in the tracker's legend."""
    marks = {True: "[x]", False: "[!]", None: "[ ]"}
    return "".join(f"{marks[row['holds']]} {row['claim']}: {row['evidence']}\n" for row in claims)


def login_sentence(role: str, address: str) -> str:
    """Return what is said of a role that logs in."""
    return f"{role} logs in at {address} by TLS with the limits of its role"


def silence_sentence(address: str) -> str:
    """Return what is said of an address of the host where nothing may listen."""
    return f"nothing listens at {address}"


def names_addresses(report: str, address: str, others: Iterable[str]) -> bool:
    """Return whether a report is about these addresses; it may be about more, as of a bridge that Docker makes again.

    address
        Where PostgreSQL listens.
    others
        The host's other addresses.
    """
    sentences = [login_sentence(role.name, address) for role in LOGINS] + [silence_sentence(other) for other in others]
    return all(f" {sentence}: " in report for sentence in sentences)


def judge_claims(claims: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str], int]:
    """Return the claims that do not hold and those about what is not built yet, in words, and how many hold."""
    rows = list(claims)
    wrong = [f"{row['claim']}: {row['evidence']}" for row in rows if row["holds"] is False]
    missing = [row["claim"] for row in rows if row["holds"] is None]
    return wrong, missing, sum(row["holds"] is True for row in rows)
