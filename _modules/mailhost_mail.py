"""Domains, users and aliases of the mail database, written with the rights of the role mailadmin and no more.

What needs a password or a file of the workstation's (``user_add``, ``set_password``, ``import_users``,
``import_aliases``) begins there, in ``_wrapper/mailhost_mail.py``.
"""

import contextlib
import json
import pathlib

from salt.exceptions import CommandExecutionError

import mailhost_mail
from mailhost_connection import connected, driver
from mailhost_database import SCHEMA

__all__ = [
    "alias_add",
    "alias_domain_add",
    "alias_remove",
    "domain_active",
    "domain_add",
    "domain_remove",
    "list_",
    "of",
    "set_quota",
    "user_add_made",
    "user_disable",
    "user_enable",
    "user_remove",
    "write_aliases",
    "write_users",
]
__func_alias__ = {"list_": "list"}

# Where passwords that were made on the host wait for the operator: a file a user, root's only.
MADE = pathlib.Path("/root/mail-passwords")
# 2^12 rounds: a quarter of a second on this kind of machine.
BCRYPT_COST = 12


def domain_add(name, comment=""):
    """Take mail for a domain from now on; its users and aliases come next.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.domain_add example.org
    """
    name = _parsed(mailhost_mail.domain, name)
    with _writing() as connection:
        _insert(connection, "virtual_domains", name, {"name": name, "comment": mailhost_mail.comment(comment)})
    return f"{name}: mail is taken for it; it has no users or aliases yet"


def alias_domain_add(name, target):
    """Let a domain be another name of one that is there: each address of the target exists in it too.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.alias_domain_add example.net example.org
    """
    name, target = _parsed(mailhost_mail.domain, name), _parsed(mailhost_mail.domain, target)
    with _writing() as connection:
        _home(connection, target)
        _insert(connection, "virtual_domains", name, {"name": name, "alias_of": target})
    return f"{name}: is another name of {target}"


def domain_active(name, active):
    """Switch a domain on or off; while it is off its mail is refused and its users cannot log in.

    active
        Whether mail is taken for it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.domain_active example.org False
    """
    name = _parsed(mailhost_mail.domain, name)
    with _writing() as connection:
        _update(connection, "virtual_domains", {"name": name}, {"active": bool(active)})
    return f"{name}: is {'on' if active else 'off'}"


def domain_remove(name):
    """Remove a domain that has no users, aliases and other names left.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.domain_remove example.org
    """
    name = _parsed(mailhost_mail.domain, name)
    with _writing() as connection:
        _delete(connection, "virtual_domains", {"name": name})
    return f"{name}: is removed"


def alias_add(source, destination, comment=""):
    """Let mail for an address go to another one, or to several: once for each. The source @example.org is a catch-all.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.alias_add postmaster@example.org ada@example.org
    """
    source = _parsed(mailhost_mail.source, source)
    destination = _parsed(mailhost_mail.destination, destination)
    with _writing() as connection:
        _home(connection, source.partition("@")[2])
        row = {"source": source, "destination": destination, "comment": mailhost_mail.comment(comment)}
        _insert(connection, "virtual_aliases", f"{source} -> {destination}", row)
    return f"{source}: mail goes to {destination}"


def alias_remove(source, destination):
    """Let mail for an address go to another one no longer.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.alias_remove postmaster@example.org ada@example.org
    """
    row = {
        "source": _parsed(mailhost_mail.source, source),
        "destination": _parsed(mailhost_mail.destination, destination),
    }
    with _writing() as connection:
        _delete(connection, "virtual_aliases", row)
    return f"{row['source']}: mail goes to {row['destination']} no longer"


def user_disable(email):
    """Switch a user off: logins and mail are refused; what is in the mailbox stays.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_disable ada@example.org
    """
    return _user_update(email, {"active": False}, "is off: logins and mail are refused")


def user_enable(email):
    """Switch a user on again.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_enable ada@example.org
    """
    return _user_update(email, {"active": True}, "is on")


def user_remove(email):
    """Remove a user from the database; the files of the mailbox stay where they are.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_remove ada@example.org
    """
    email = _parsed(mailhost_mail.address, email)
    with _writing() as connection:
        _delete(connection, "virtual_users", {"email": email})
    (MADE / email).unlink(missing_ok=True)
    return f"{email}: is removed; the mailbox's files are not"


def set_quota(email, quota, messages=0):
    """Limit what a mailbox may hold.

    quota
        Bytes, or a size such as 10G; 0 is no limit.
    messages
        Number of messages; 0 is no limit.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.set_quota ada@example.org 10G
    """
    values = {
        "quota_bytes": _parsed(mailhost_mail.quota, quota),
        "quota_messages": _parsed(mailhost_mail.messages, messages),
    }
    bytes_, count = (value or "any number of" for value in values.values())
    said = f"may hold {bytes_} bytes and {count} messages"
    return _user_update(email, values, said)


def list_(domain=None):
    """Return domains, users and aliases, of one domain or of all; never a password or hash.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.list example.org
    """
    only = None if domain is None else _parsed(mailhost_mail.domain, domain)
    with _writing() as connection:

        def rows(query):
            return connection.execute(query, {"only": only}).fetchall()

        domains = rows(
            f"SELECT name, alias_of, active, comment FROM {SCHEMA}.virtual_domains"
            " WHERE %(only)s::text IS NULL OR name = %(only)s OR alias_of = %(only)s ORDER BY name"
        )
        users = rows(
            "SELECT email, active, quota_bytes, quota_messages, substring(password from '[A-Z0-9-]+'), comment"
            f" FROM {SCHEMA}.virtual_users WHERE %(only)s::text IS NULL OR domain = %(only)s ORDER BY domain, email"
        )
        aliases = rows(
            f"SELECT source, destination, active, comment FROM {SCHEMA}.virtual_aliases"
            " WHERE %(only)s::text IS NULL OR domain = %(only)s ORDER BY domain, source, destination"
        )
    if only and not domains:
        raise CommandExecutionError(f"{only}: there is no such domain")
    return {
        "domains": [dict(zip(("name", "alias_of", "active", "comment"), row, strict=True)) for row in domains],
        "users": [
            dict(zip(("email", "active", "quota_bytes", "quota_messages", "scheme", "comment"), row, strict=True))
            for row in users
        ],
        "aliases": [dict(zip(("source", "destination", "active", "comment"), row, strict=True)) for row in aliases],
    }


def of(name):
    """Return what there is of a domain: its name, its users, and its aliases as ``source -> destination``.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.of example.org
    """
    with _writing() as connection:
        rows = connection.execute(
            f"SELECT name FROM {SCHEMA}.virtual_domains WHERE name = %(name)s"
            f" UNION ALL SELECT email FROM {SCHEMA}.virtual_users WHERE domain = %(name)s"
            f" UNION ALL SELECT source || ' -> ' || destination FROM {SCHEMA}.virtual_aliases WHERE domain = %(name)s",
            {"name": name},
        ).fetchall()
    return [row[0] for row in rows]


def user_add_made(email, comment=""):
    """Add a user whose password is made here, and waits for the operator in a file.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_add_made ada@example.org
    """
    return _write_users([_parsed(lambda typed: mailhost_mail.user(typed, 0, 0, comment), email)], True)


def write_users(path, new=True):
    """Add users, or give users that are there new passwords, from a file on the host; all of them or none.

    path
        A JSON list of users, each with ``email`` and, unless a password is to be made, ``password`` or ``hash``. It
        is removed before anything else is done. Never called by hand: it is how passwords get here.
    new
        Whether the users are to be added.

    Returns a sentence for each user. Raises CommandExecutionError with all that is wrong, and then nothing is written.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_add ada@example.org  # which uses it
    """
    return _write_users(_taken(path), new)


def _write_users(users, new):
    """Add users, or give them new passwords, and return a sentence for each."""
    with _writing() as connection:
        if wrong := _wrong(connection, users, new):
            raise CommandExecutionError("\n".join([*wrong, "nothing was written"]))
    # bcrypt takes its time by design: no transaction is open meanwhile.
    without = [user["email"] for user in users if not user.get("password", user.get("hash"))]
    made = {email: mailhost_mail.made_password() for email in without}
    for user in users:
        user["password"] = user.pop("hash", None) or _hash(user.get("password") or made[user["email"]])
    with _writing() as connection:
        for user in users:
            if new:
                _insert(connection, "virtual_users", user["email"], user)
            else:
                _update(connection, "virtual_users", {"email": user["email"]}, {"password": user["password"]})
            (MADE / user["email"]).unlink(missing_ok=True)
        # Inside the transaction: a password nobody can read must not be anybody's.
        for email, password in made.items():
            __salt__["mailhost_file.make_directory"](str(MADE), mode="0700")
            __salt__["mailhost_file.replace"](str(MADE / email), password + "\n", mode="0600")
    did = "is added" if new else "has a new password"
    return [
        f"{user['email']}: {did}" + (f"; it is in {MADE / user['email']} on the host" if user["email"] in made else "")
        for user in users
    ]


def write_aliases(path):
    """Add aliases from a file on the host, a JSON list of rows; all of them or none. The file is removed first.

    Returns a sentence for each. Raises CommandExecutionError with all that is wrong, and then nothing is written.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.import_aliases aliases.csv  # which uses it
    """
    aliases = _taken(path)
    names = [f"{alias['source']} -> {alias['destination']}" for alias in aliases]
    with _writing() as connection:
        query = f"SELECT source || ' -> ' || destination FROM {SCHEMA}.virtual_aliases"
        there = {row[0] for row in connection.execute(query).fetchall()}
        wrong = [f"{name}: is there already" for name in names if name in there]
        wrong += _homeless(connection, {alias["source"].partition("@")[2] for alias in aliases}, "aliases")
        if wrong:
            raise CommandExecutionError("\n".join([*wrong, "nothing was written"]))
        for name, alias in zip(names, aliases, strict=True):
            _insert(connection, "virtual_aliases", name, alias)
    return [f"{alias['source']}: mail goes to {alias['destination']}" for alias in aliases]


def _taken(path):
    """Return the rows of a file that was sent here, which is gone then."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    finally:
        pathlib.Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def _writing():
    """Open a transaction with the rights of mailadmin; what the database refuses is said in its own words."""
    with connected() as connection, connection.transaction():
        connection.execute("SET LOCAL ROLE mailadmin")
        yield connection


def _parsed(parse, value):
    """Return what a parser makes of a value; its sentence as a CommandExecutionError."""
    try:
        return parse(value)
    except ValueError as error:
        raise CommandExecutionError(str(error)) from None


def _wrong(connection, users, new):
    """Return what stands against writing these users."""
    emails = [user["email"] for user in users]
    there = {
        row[0]
        for row in connection.execute(f"SELECT email FROM {SCHEMA}.virtual_users WHERE email = ANY(%s)", [emails])
    }
    if not new:
        return [f"{email}: there is no such user" for email in emails if email not in there]
    wrong = [f"{email}: is there already" for email in emails if email in there]
    return wrong + _homeless(connection, {email.partition("@")[2] for email in emails}, "users")


def _homeless(connection, names, what):
    """Return what stands against things of these domains: which are not there, and which are only other names."""
    kinds = dict(connection.execute(f"SELECT name, kind FROM {SCHEMA}.virtual_domains").fetchall())
    missing = [f"{name}: there is no such domain" for name in sorted(names - set(kinds))]
    return missing + [
        f"{name}: is another name of a domain, and has no {what} of its own"
        for name in sorted(names)
        if kinds.get(name) == "alias"
    ]


def _home(connection, name):
    """Raise CommandExecutionError unless a domain is there and has mailboxes of its own."""
    row = connection.execute(f"SELECT alias_of FROM {SCHEMA}.virtual_domains WHERE name = %s", [name]).fetchone()
    if row is None:
        raise CommandExecutionError(f"{name}: there is no such domain: add it with mailhost_mail.domain_add")
    if row[0] is not None:
        raise CommandExecutionError(f"{name}: is another name of {row[0]}: use that")


def _insert(connection, table, what, row):
    """Add a row; ``what`` is what it is called in a sentence."""
    psycopg = driver()
    columns = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, row))
    values = psycopg.sql.SQL(", ").join(map(psycopg.sql.Placeholder, row))
    statement = psycopg.sql.SQL(f"INSERT INTO {SCHEMA}.{table} ({{}}) VALUES ({{}})").format(columns, values)
    try:
        connection.execute(statement, row)
    except psycopg.errors.UniqueViolation:
        raise CommandExecutionError(f"{what}: is there already") from None


def _update(connection, table, key, values):
    """Change the one row of a key."""
    psycopg = driver()
    ((column, value),) = key.items()
    sets = psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("{} = {}").format(psycopg.sql.Identifier(name), psycopg.sql.Placeholder(name))
        for name in values
    )
    statement = psycopg.sql.SQL(f"UPDATE {SCHEMA}.{table} SET {{}} WHERE {column} = {{}}").format(
        sets, psycopg.sql.Placeholder(column)
    )
    if connection.execute(statement, {**values, **key}).rowcount != 1:
        raise CommandExecutionError(f"{value}: is not there")


def _delete(connection, table, row):
    """Remove the one row of a key."""
    psycopg = driver()
    where = " AND ".join(f"{column} = %({column})s" for column in row)
    try:
        if connection.execute(f"DELETE FROM {SCHEMA}.{table} WHERE {where}", row).rowcount != 1:
            raise CommandExecutionError(f"{' -> '.join(row.values())}: is not there")
    except psycopg.errors.ForeignKeyViolation as error:
        left = str(error.diag.table_name).removeprefix("virtual_")
        raise CommandExecutionError(f"{' -> '.join(row.values())}: still has {left}; remove them first") from None


def _user_update(email, values, said):
    email = _parsed(mailhost_mail.address, email)
    with _writing() as connection:
        _update(connection, "virtual_users", {"email": email}, values)
    return f"{email}: {said}"


def _hash(password):
    """Return a password's hash as Dovecot reads it: bcrypt, which this server's own verify_password() knows too."""
    import bcrypt

    return "{BLF-CRYPT}" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()
