"""Look at the mail database and change it, as its superuser over the host's own socket.

Statements are sent by psycopg with their values apart from them; passwords are sent as verifiers, so that neither the
server's log nor its activity view shows one.
"""

import datetime
import importlib.util
import json
import os
import secrets
import socket

from salt.exceptions import CommandExecutionError

import mailhost_backup
import mailhost_database
import mailhost_postgres
from mailhost_connection import SUPERUSER, connected, driver, words
from mailhost_database import BACKUP_SCHEMA, EXTENSION_SCHEMA, LOCK, NAME, OWNER, SCHEMA, SOGO_SCHEMA, claim

__all__ = [
    "claims",
    "grant",
    "login",
    "look",
    "make",
    "make_role",
    "migrate",
    "new_password",
    "other_addresses",
    "set_owner",
    "set_role",
]

# What must be refused, without a trace where it is not: the transaction has nothing to change.
_WRITE = f"DELETE FROM {SCHEMA}.virtual_domains WHERE false"
_SCHEMAS = ", ".join(f"'{schema}'" for schema in (SCHEMA, BACKUP_SCHEMA, EXTENSION_SCHEMA, SOGO_SCHEMA))
# Those whose objects each have their owner and their rights declared.
_OURS = f"(to_regnamespace('{SCHEMA}'), to_regnamespace('{BACKUP_SCHEMA}'))"
_ALTER = f"ALTER TABLE {SCHEMA}.virtual_users ALTER COLUMN comment SET DEFAULT ''"
# Attributes of CREATE and ALTER ROLE, by our names.
FLAGS = {
    "login": "LOGIN",
    "superuser": "SUPERUSER",
    "createdb": "CREATEDB",
    "createrole": "CREATEROLE",
    "replication": "REPLICATION",
    "bypassrls": "BYPASSRLS",
    "inherit": "INHERIT",
}

ROLES = """
SELECT r.rolname AS name, r.rolcanlogin AS login, r.rolsuper AS superuser, r.rolcreatedb AS createdb,
       r.rolcreaterole AS createrole, r.rolreplication AS replication, r.rolbypassrls AS bypassrls,
       r.rolinherit AS inherit, r.rolconnlimit AS connections, nullif(r.rolvaliduntil, 'infinity')::text AS valid_until,
       r.rolpassword AS verifier,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS member_of,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.member
             WHERE m.roleid = r.oid ORDER BY 1) AS members,
       ARRAY(SELECT CASE WHEN s.setdatabase = 0 THEN '' ELSE coalesce(d.datname::text, '?') || ': ' END || c
             FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
             WHERE s.setrole = r.oid ORDER BY 1) AS settings
FROM pg_authid r WHERE r.rolname = ANY(%s)
"""
OWNERS = f"""
SELECT 'DATABASE ' || datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT 'SCHEMA ' || nspname, pg_get_userbyid(nspowner) FROM pg_namespace
WHERE nspname IN ({_SCHEMAS})
UNION ALL
SELECT 'TABLE ' || oid::regclass, pg_get_userbyid(relowner) FROM pg_class
WHERE relnamespace IN {_OURS} AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT 'FUNCTION ' || oid::regprocedure, pg_get_userbyid(proowner) FROM pg_proc
WHERE pronamespace IN {_OURS}
"""
# What belongs to an object's owner goes without saying; so do the rights in SOGo's own schema.
GRANTS = f"""
WITH things AS (
    SELECT 'DATABASE ' || datname AS thing, datdba AS owner, coalesce(datacl, acldefault('d', datdba)) AS acl, '' AS col
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)), ''
    FROM pg_namespace WHERE nspname IN ('public', {_SCHEMAS})
    UNION ALL
    SELECT 'TABLE ' || oid::regclass, relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)), ''
    FROM pg_class WHERE relnamespace IN {_OURS} AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'TABLE ' || c.oid::regclass, c.relowner, a.attacl, '(' || a.attname || ')'
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace IN {_OURS} AND a.attacl IS NOT NULL
    UNION ALL
    SELECT 'FUNCTION ' || oid::regprocedure, proowner,
           coalesce(proacl, acldefault('f', proowner)), ''
    FROM pg_proc WHERE pronamespace IN {_OURS}
)
SELECT DISTINCT coalesce(r.rolname, 'PUBLIC')::text, x.privilege_type || things.col
       || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, things.thing
FROM things, aclexplode(things.acl) x LEFT JOIN pg_authid r ON r.oid = x.grantee
WHERE x.grantee <> things.owner
"""


def look():
    """Return what the database is: ``state`` (absent, down, up), and when up its roles, owners, rights and migrations.

    Absent means that nothing of ours can be in it yet; down, that it does not answer, and ``why``.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.look
    """
    empty = {"why": "", "exists": False, "roles": {}, "owners": {}, "grants": [], "migrations": {}}
    if not os.path.exists(f"{mailhost_database.DATA_DIRECTORY}/PG_VERSION"):
        return {**empty, "state": "absent", "why": "there is no PostgreSQL on this host yet"}
    if not importlib.util.find_spec("psycopg"):
        # The task that brings it makes the files first.
        files = [mailhost_database.pgpass_path(role) for role in mailhost_database.LOGINS]
        state = "down" if any(map(os.path.exists, files)) else "absent"
        return {**empty, "state": state, "why": "python3-psycopg is not installed"}
    try:
        with connected(SUPERUSER) as connection:
            found = {**empty, "state": "up", "roles": _roles(connection)}
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone()
    except CommandExecutionError as error:
        return {**empty, "state": "down", "why": str(error)}
    if not row:
        return found
    with connected() as connection:
        return {
            **found,
            "exists": True,
            "owners": dict(connection.execute(OWNERS).fetchall()),
            "grants": [list(row) for row in connection.execute(GRANTS).fetchall()],
            "migrations": _migrations(connection),
        }


def make_role(name, password=None):
    """Make a role of ours with its attributes.

    name
        One of ``mailhost_database.ROLES``.
    password
        Its password, for a role that logs in.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.make_role mailserver_owner
    """
    sql = driver().sql
    with connected(SUPERUSER) as connection, connection.transaction():
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        _alter(connection, name, mailhost_database.wanted_role(mailhost_database.BY_NAME[name]))
        if password is not None:
            _set_password(connection, name, password)


def set_role(name, attributes=(), password=None):
    """Give a role of ours back the attributes it should have, and a password.

    attributes
        Names of those that differ, as ``mailhost_database.look`` has them.
    password
        Its password; None leaves it, "" takes it away.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.set_role postfix '["connections"]'
    """
    wanted = mailhost_database.wanted_role(mailhost_database.BY_NAME[name])
    with connected(SUPERUSER) as connection, connection.transaction():
        _alter(connection, name, {attribute: wanted[attribute] for attribute in attributes})
        if password is not None:
            _set_password(connection, name, password)


def make():
    """Make the database, with nothing in it and nothing for PUBLIC, and its schemas.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.make
    """
    sql = driver().sql
    name, owner = sql.Identifier(NAME), sql.Identifier(OWNER)
    with connected(SUPERUSER) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8'").format(name, owner))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    with connected() as connection, connection.transaction():
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for schema in (SCHEMA, BACKUP_SCHEMA, EXTENSION_SCHEMA, SOGO_SCHEMA):
            role = sql.Identifier(mailhost_database.OWNERS[f"SCHEMA {schema}"])
            statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
            connection.execute(statement.format(sql.Identifier(schema), role))


def set_owner(thing, role):
    """Let an object of the database, or the database, belong to a role of ours.

    thing
        Its kind and name, as ``mailhost_database.look`` has it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.set_owner 'SCHEMA mail' mailserver_owner
    """
    sql = driver().sql
    with connected() as connection:
        # ALTER TABLE takes views and sequences too; the object's name comes quoted from the server's catalogue.
        connection.execute(sql.SQL("ALTER " + thing + " OWNER TO {}").format(sql.Identifier(role)))


def grant(granted, revoked):
    """Grant and revoke rights, all together or none.

    granted, revoked
        Lists of ``[role, privilege, object]``, as ``mailhost_database.look`` has them.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.grant '[["dovecot", "USAGE", "SCHEMA mail"]]' '[]'
    """
    sql = driver().sql

    def named(role):
        return sql.SQL("PUBLIC") if role == "PUBLIC" else sql.Identifier(role)

    with connected() as connection, connection.transaction():
        for role, privilege, thing in revoked:
            words = f"REVOKE {privilege.removesuffix(' WITH GRANT OPTION')} ON {thing} FROM {{}} CASCADE"
            connection.execute(sql.SQL(words).format(named(role)))
        for role, privilege, thing in [*granted, *mailhost_database.taken_along(revoked)]:
            connection.execute(sql.SQL(f"GRANT {privilege} ON {thing} TO {{}}").format(named(role)))


def migrate(files):
    """Apply the migrations that are pending, each in one transaction, and return their names.

    files
        Their texts by name, in order.

    Raises CommandExecutionError when one fails, with all before it applied and nothing of it, or was changed since.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.apply database.schema  # which uses it
    """
    done = []
    while True:
        with connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            connection.execute(f"SET LOCAL ROLE {OWNER}")
            # Read under the lock: another run may have applied some in the meantime.
            try:
                left = mailhost_database.pending(files, _migrations(connection))
            except ValueError as error:
                raise CommandExecutionError(f"migration {error}") from None
            if not left:
                return done
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_migrations (name text PRIMARY KEY,"
                " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            try:
                connection.execute(files[left[0]])
            except driver().Error as error:
                raise CommandExecutionError(f"migration {left[0]}: {words(error)}; nothing of it was kept") from None
            connection.execute(
                f"INSERT INTO {SCHEMA}.schema_migrations (name, checksum) VALUES (%s, %s)",
                [left[0], mailhost_database.checksum(files[left[0]])],
            )
            done.append(left[0])


def login(role, address, ca=mailhost_database.CA):
    """Log in as a role of ours the way its service does, and return what the session is: TLS, limits, rights.

    Uses the password of the role's file; the server's certificate must be for the address and from the authority.

    address
        Where PostgreSQL listens.

    Raises CommandExecutionError with the server's words when it refuses.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.login postfix 10.100.0.25
    """
    with connected(
        host=address,
        port=mailhost_database.PORT,
        user=role,
        passfile=mailhost_database.pgpass_path(mailhost_database.BY_NAME[role]),
        sslmode="verify-full",
        sslrootcert=ca,
        channel_binding="require",
    ) as connection:
        row = connection.execute(
            "SELECT version, cipher, current_user::text, current_setting('statement_timeout'),"
            " current_setting('default_transaction_read_only')"
            " FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    return dict(zip(("tls", "cipher", "user", "statement_timeout", "read_only"), row, strict=True))


def new_password(role):
    """Give a role a new password and its service the file with it; return the file's path.

    Both change within a few milliseconds: the server has accepted the new password, but not yet committed it, when the
    file is replaced. Connections that are open stay; libpq reads the file anew for each new one. When the commit fails,
    the old file is put back; after a power cut in between, the next ``state.apply`` sets the file's password.

    Raises CommandExecutionError when the role has no password file.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.rotate_password postfix  # which uses it, and knows the pillar
    """
    if role not in [known.name for known in mailhost_database.LOGINS]:
        names = ", ".join(known.name for known in mailhost_database.LOGINS)
        raise CommandExecutionError(f"{role}: is no role that logs in; there are {names}")
    path = mailhost_database.pgpass_path(mailhost_database.BY_NAME[role])
    found = __salt__["mailhost_file.look"](path)
    old = mailhost_database.password_in(found.get("text"))
    if old is None:
        raise CommandExecutionError(f"{path}: has no password yet: apply database.schema")
    password = secrets.token_urlsafe(32)
    owners = (found["user"], found["group"], found["mode"])
    try:
        with connected(SUPERUSER) as connection, connection.transaction():
            _set_password(connection, role, password)
            __salt__["mailhost_file.replace"](path, found["text"].replace(f":{old}\n", f":{password}\n"), *owners)
    except BaseException:
        __salt__["mailhost_file.replace"](path, found["text"], *owners)
        raise
    return path


def claims(address):
    """Try everything that is said of the database and return claims: what is said, whether it holds, what was seen.

    Logs in as each role the way its service does, and tries what must be refused. Nothing is changed.

    address
        Where PostgreSQL listens in the VPN.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.claims 10.100.0.25
    """
    rows = []
    for role in mailhost_database.LOGINS:
        sentence = mailhost_database.login_sentence(role.name, address)
        try:
            found = login(role.name, address)
        except CommandExecutionError as error:
            rows.append(claim(sentence, False, str(error)))
            continue
        wanted = (role.settings["statement_timeout"], role.settings.get("default_transaction_read_only", "off"))
        said = f"{found['tls']} {found['cipher']}, statement_timeout {found['statement_timeout']}"
        said += ", read-only" if found["read_only"] == "on" else ""
        same = (_seconds(found["statement_timeout"]), found["read_only"]) == (_seconds(wanted[0]), wanted[1])
        rows.append(claim(sentence, same, said))
    way = {"host": address, "port": mailhost_database.PORT}
    passfile = {
        role.name: {"user": role.name, "passfile": mailhost_database.pgpass_path(role)}
        for role in mailhost_database.LOGINS
    }
    denied, no_entry = "permission denied", "no pg_hba.conf entry"
    tries = [
        ("a wrong password is refused", "password authentication failed", "", {"user": "postfix", "password": "wrong"}),
        ("the superuser is refused over TCP", no_entry, "", {"user": SUPERUSER, "password": "wrong"}),
        ("a login without TLS is refused", no_entry, "", {**passfile["postfix"], "sslmode": "disable"}),
        ("another database is refused", no_entry, "", {**passfile["postfix"], "database": "postgres"}),
        ("postfix cannot read passwords", denied, f"SELECT password FROM {SCHEMA}.virtual_users", passfile["postfix"]),
        ("postfix cannot write", denied, _WRITE, passfile["postfix"]),
        ("dovecot cannot write", denied, _WRITE, passfile["dovecot"]),
        ("dovecot cannot read tables", denied, f"SELECT email FROM {SCHEMA}.virtual_users", passfile["dovecot"]),
        ("sogo cannot change addresses", denied, f"UPDATE {SCHEMA}.virtual_users SET email = email", passfile["sogo"]),
        ("mailadmin cannot change the schema", "must be owner", _ALTER, passfile["mailadmin"]),
    ]
    rows += [_refused(sentence, words_, query, {**way, **wanted}) for sentence, words_, query, wanted in tries]
    for other in other_addresses(address):
        with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET) as tried:
            tried.settimeout(2)
            error = tried.connect_ex((other, mailhost_database.PORT))
        said = os.strerror(error).lower() if error else "open"
        rows.append(claim(mailhost_database.silence_sentence(other), bool(error), said))
    with connected(SUPERUSER) as connection:

        def shown(name):
            return connection.execute(f"SHOW {name}").fetchone()[0]

        checksums, encryption, version = shown("data_checksums"), shown("password_encryption"), shown("server_version")
        archiver = connection.execute(mailhost_backup.QUESTION).fetchone()[0]
    rows.append(claim("data checksums are on", checksums == "on", checksums))
    rows.append(claim("passwords are kept as SCRAM verifiers", encryption == "scram-sha-256", encryption))
    oldest, major = mailhost_postgres.OLDEST, version.split(".")[0]
    # Without the minor version: which one a new image brings no dry run can know.
    rows.append(claim(f"this is PostgreSQL {oldest} or later", int(major) >= oldest, major))
    stuck = mailhost_backup.judge_archiver(archiver)
    rows.append(claim("WAL archiving advances", not stuck, "; ".join(stuck) or "no segment waits for the archive"))
    settings = __salt__["mailhost_file.look"](mailhost_backup.SETTINGS).get("text")
    if settings is None:
        raise CommandExecutionError(f"{mailhost_backup.SETTINGS}: does not exist")
    told, now = json.loads(settings), datetime.datetime.now(datetime.UTC)
    drills = __salt__["mailhost_backup.drills"]()
    wrong = mailhost_backup.judge_drills(drills, told["drill"], told["offsite"], now)
    said = "; ".join(f"repository {number}: {why}" for number, why in wrong.items())
    rows.append(
        claim(
            "the last restore drill is recent",
            not wrong,
            said or f"it passed within {told['drill']['max_age_hours']} hours",
        )
    )
    return rows


def other_addresses(address):
    """Return the host's own global addresses besides the VPN's, which is where strangers come from.

    address
        That in the VPN.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.other_addresses 10.100.0.25
    """
    links = json.loads(__salt__["mailhost_run.program"](["ip", "-j", "address", "show", "scope", "global", "up"]))
    pairs = [(link["ifname"], entry) for link in links if link for entry in link["addr_info"]]
    found = [(name, entry["local"]) for name, entry in pairs if "local" in entry]
    vpn = {name for name, local in found if local == address}
    return [local for name, local in found if name not in vpn]


def _refused(sentence, expected, query, wanted):
    """Return the claim that the server refuses a login, or a query after it, in the words it should."""
    database = wanted.pop("database", NAME)
    try:
        with connected(database, **{"sslmode": "require", **wanted}) as connection:
            # A role's own default must not be what protects: anybody may change that in a session.
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(query or "SELECT 1")
    except CommandExecutionError as error:
        said = str(error)
        return claim(sentence, expected in said, expected if expected in said else said)
    return claim(sentence, False, "it is let do it" if query else "it is let in")


def _seconds(setting):
    """Return a time as PostgreSQL shows it, 10s or 1min, in seconds."""
    units = {"ms": 0.001, "s": 1, "min": 60}
    number = "".join(sign for sign in setting if sign.isdigit())
    return int(number) * units.get(setting.removeprefix(number), 0)


def _roles(connection):
    """Return the attributes of our roles by name."""
    names = [role.name for role in mailhost_database.ROLES]
    cursor = connection.execute(ROLES, [names])
    columns = [column.name for column in cursor.description]
    found = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return {
        role.pop("name"): {**role, "settings": dict(entry.split("=", 1) for entry in role["settings"])}
        for role in found
    }


def _migrations(connection):
    """Return the checksums of the applied migrations by name, in their order."""
    if connection.execute(f"SELECT to_regclass('{SCHEMA}.schema_migrations')").fetchone()[0] is None:
        return {}
    return dict(connection.execute(f"SELECT name, checksum FROM {SCHEMA}.schema_migrations ORDER BY name").fetchall())


def _alter(connection, name, attributes):
    """Give a role attributes, by our names for them."""
    sql = driver().sql
    role = sql.Identifier(name)
    words = [f"{'' if value else 'NO'}{FLAGS[key]}" for key, value in attributes.items() if key in FLAGS]
    if "connections" in attributes:
        words.append(f"CONNECTION LIMIT {attributes['connections']:d}")
    if "valid_until" in attributes:
        words.append("VALID UNTIL 'infinity'")
    if words:
        connection.execute(sql.SQL(f"ALTER ROLE {{}} {' '.join(words)}").format(role))
    for key, statement in (("member_of", "REVOKE {other} FROM {role}"), ("members", "REVOKE {role} FROM {other}")):
        if key in attributes:
            for other in _roles(connection)[name][key]:
                connection.execute(sql.SQL(statement + " CASCADE").format(role=role, other=sql.Identifier(other)))
    if "settings" in attributes:
        for database in _databases_with_settings(connection, name):
            statement = sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL")
            connection.execute(statement.format(role, sql.Identifier(database)))
        connection.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(role))
        for key, value in attributes["settings"].items():
            values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
            connection.execute(sql.SQL("ALTER ROLE {} SET {} TO {}").format(role, sql.Identifier(key), values))


def _databases_with_settings(connection, name):
    """Return the databases in which a role has settings of its own."""
    rows = connection.execute(
        "SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " JOIN pg_authid r ON r.oid = s.setrole WHERE r.rolname = %s",
        [name],
    )
    return [row[0] for row in rows.fetchall()]


def _set_password(connection, name, password):
    """Set a role's password by its verifier, or take it away."""
    sql = driver().sql
    value = sql.SQL("NULL")
    if password:
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        value = sql.Literal(verifier.decode())
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), value))
