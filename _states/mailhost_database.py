"""The mail database: roles, database, migrations, rights, and the files that services connect with."""

import secrets

from salt.exceptions import CommandExecutionError

import mailhost_database
import mailhost_file
import mailhost_mail
from mailhost_result import PENDING, explained, outcome

__all__ = ["connections", "granted", "made", "migrated", "reported", "roles", "test_data"]


@explained
def connections(name, address, passwords):
    """Let each service have the files to connect with, for root only: libpq's password and connection service files.

    address
        Where PostgreSQL listens.
    passwords
        The passwords of the pillar by role; None: one is made on the host and stays there.
    """
    changes, texts = {}, {}
    for role in mailhost_database.LOGINS:
        password = _password(role, passwords) or secrets.token_urlsafe(32)
        wanted = {
            mailhost_database.pgpass_path(role): mailhost_database.pgpass(role, address, password),
            mailhost_database.service_path(role): mailhost_database.service(role, address),
        }
        found = __salt__["mailhost_file.look"](mailhost_database.directory(role))
        if found["kind"] != "directory" or mailhost_file.access(found) != "root:root 0700":
            old = mailhost_file.access(found) if found["kind"] == "directory" else found["kind"]
            changes[mailhost_database.directory(role)] = {"old": old, "new": "root:root 0700"}
        for path, text in wanted.items():
            current = __salt__["mailhost_file.look"](path)
            if old := _differs(current, text):
                changes[path] = {"old": old, "new": "as declared, root:root 0600"}
                texts[path] = text

    def act():
        for role in mailhost_database.LOGINS:
            if mailhost_database.directory(role) in changes:
                __salt__["mailhost_file.make_directory"](mailhost_database.directory(role), mode="0700")
        for path, text in texts.items():
            __salt__["mailhost_file.replace"](path, text, mode="0600")

    return outcome((__opts__, __context__), name, changes, act, "each service has its own, for root only")


@explained
def roles(name, passwords):
    """Let the roles be there with their limits, and with the passwords of the services' files.

    passwords
        The passwords of the pillar by role, which the files have; None: the file's.
    """
    found = _look()
    # A dry run finds the files as they were before the pillar's passwords.
    wanted = {role.name: _password(role, passwords) for role in mailhost_database.LOGINS}
    changes = mailhost_database.plan_roles(found["roles"], wanted) if found else {}

    def act():
        for role in mailhost_database.ROLES:
            if role.name in changes:
                __salt__["mailhost_database.make_role"](role.name, wanted.get(role.name))
                continue
            mine = [key.split(": ", 1)[1] for key in changes if key.startswith(f"{role.name}: ")]
            if mine:
                password = wanted.get(role.name, "") if "password" in mine else None
                attributes = [attribute for attribute in mine if attribute != "password"]
                __salt__["mailhost_database.set_role"](role.name, attributes, password)

    return outcome((__opts__, __context__), name, changes, act, _unless_down(found, "are as declared"))


@explained
def made(name):
    """Let the database and its schemas be there and belong to whom they should, and so all that is in them."""
    found = _look()
    changes = {}
    if found:
        things = [thing for thing in mailhost_database.OWNERS if thing not in found["owners"]]
        changes = {thing: {"old": None, "new": mailhost_database.OWNERS[thing]} for thing in things}
        changes |= mailhost_database.plan_owners(found["owners"])

    def act():
        if any(change["old"] is None for change in changes.values()):
            __salt__["mailhost_database.make"]()
        for thing, change in changes.items():
            if change["old"] is not None:
                __salt__["mailhost_database.set_owner"](thing, change["new"])

    return outcome((__opts__, __context__), name, changes, act, _unless_down(found, "is there"))


@explained
def migrated(name, migrations):
    """Let the migrations be applied, each in one transaction, once.

    migrations
        Their files, ``salt://…``, in order. One that was changed after it was applied is refused.
    """
    files = {}
    for source in migrations:
        path = __salt__["cp.cache_file"](source)
        if not path:
            raise CommandExecutionError(f"{source}: does not exist")
        with open(path, encoding="utf-8") as stream:
            files[source.rsplit("/", 1)[1].removesuffix(".sql")] = stream.read()
    found = _look()
    try:
        left = mailhost_database.pending(files, found["migrations"]) if found else []
    except ValueError as error:
        raise CommandExecutionError(f"migration {error}") from None
    changes = {migration: {"old": None, "new": "applied"} for migration in left}
    last = list(files)[-1]
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_database.migrate"](files),
        _unless_down(found, f"{len(files)} are applied, the last is {last}"),
    )


@explained
def granted(name):
    """Let each role have the rights it needs and no other, and PUBLIC none."""
    found = _look()
    missing, strays = mailhost_database.plan_grants(map(tuple, found["grants"])) if found else ([], [])
    changes = mailhost_database.grant_changes(missing, strays)
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_database.grant"](missing, strays),
        _unless_down(found, "are as declared"),
    )


@explained
def test_data(name, wanted):
    """Let there be a domain with a user and an alias to try things on, where that is asked for.

    wanted
        Whether. What is there when it is not goes by the tool for users only; the proof names it.
    """
    if not wanted:
        return outcome((__opts__, __context__), name, {}, None, "not asked for")
    found = _look()
    there = __salt__["mailhost_mail.of"](mailhost_mail.TEST_DOMAIN) if found and found["migrations"] else []
    changes = mailhost_mail.plan_test_data(there) if found else {}

    def act():
        if mailhost_mail.TEST_DOMAIN in changes:
            __salt__["mailhost_mail.domain_add"](mailhost_mail.TEST_DOMAIN, "test data")
        if mailhost_mail.TEST_USER in changes:
            __salt__["mailhost_mail.user_add_made"](mailhost_mail.TEST_USER, "test data")
        if " -> ".join(mailhost_mail.TEST_ALIAS) in changes:
            __salt__["mailhost_mail.alias_add"](*mailhost_mail.TEST_ALIAS, "test data")

    return outcome((__opts__, __context__), name, changes, act, _unless_down(found, "is there"))


@explained
def reported(name, address):
    """Let a report on the host say what holds of the database, as it was tried just now.

    name
        The report's path.
    address
        Where PostgreSQL listens.
    """
    current = __salt__["mailhost_file.look"](name)
    if __opts__["test"] and (__context__.get(PENDING) or _look() is None or not _look()["exists"]):
        # What is tried now is not what the run would leave; a report about these addresses most likely says that.
        others = __salt__["mailhost_database.other_addresses"](address)
        same = mailhost_database.names_addresses(current.get("text") or "", address, others)
        changes, text = ({} if same else {"report": "written"}), ""
    else:
        text = mailhost_database.report(__salt__["mailhost_database.claims"](address))
        changes = {"report": "written"} if current.get("text") != text else {}
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_file.replace"](name, text, mode="0640"),
        "says what holds",
    )


def _look():
    """Return what the database is, or None in a dry run of a host whose database is there and does not answer.

    An earlier state would start it, and what is in it is most likely as it was. A real run fails.
    """
    found = __salt__["mailhost_database.look"]()
    if found["state"] == "up" or (found["state"] == "absent" and __opts__["test"]):
        return found
    if __opts__["test"]:
        return None
    raise CommandExecutionError(found["why"])


def _unless_down(found, already):
    return already if found else "cannot be looked at before PostgreSQL runs"


def _password(role, passwords):
    """Return the pillar's password of a role, else that in its file, None when there is none."""
    return passwords[role.name] or mailhost_database.password_in(
        __salt__["mailhost_file.look"](mailhost_database.pgpass_path(role)).get("text")
    )


def _differs(found, text):
    """Return what a file is that is not as it should be, "" when it is; never what is in it."""
    if found["kind"] != "file":
        return found["kind"] or "missing"
    if found["text"] != text:
        return "another content"
    return "" if mailhost_file.access(found) == "root:root 0600" else mailhost_file.access(found)
