"""The mail database: what differs of roles, rights and migrations, and the files that services connect with."""

import re
from typing import Any

import pytest

import compiled
import mailhost_database as database
import mailhost_pillar
from compiled import ROOT
from unit.test_pillar import changed, sentences

DIRECTORY = ROOT / "salt/database/migrations"
# What PostgreSQL 17 stored for the password "pencil-pencil-pencil", by ALTER ROLE.
PASSWORD = "pencil-pencil-pencil"
VERIFIER = (
    "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$"
    "lXeU9qd8OZsDhFasZhyDq6HSRmH8iWvAI+F01Zq9uoA=:zLiv6nz7pwJBkYjC4d+2suKjTBfvQF7M2kHKoxY5q98="
)
PASSWORDS = dict.fromkeys((role.name for role in database.LOGINS), PASSWORD)


def roles(**differences: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the roles as they should be, but for the differences."""
    found = {
        role.name: {**database.wanted_role(role), "verifier": VERIFIER if role.service else None}
        for role in database.ROLES
    }
    for name, difference in differences.items():
        found[name] |= difference
    return found


def test_roles_as_declared_need_nothing() -> None:
    assert database.plan_roles(roles(), PASSWORDS) == {}


def test_on_a_fresh_server_all_roles_are_made() -> None:
    assert set(database.plan_roles({}, dict.fromkeys(PASSWORDS))) == {role.name for role in database.ROLES}


@pytest.mark.parametrize(
    ("role", "difference", "changes"),
    [
        ("postfix", {"superuser": True}, {"postfix: superuser": {"old": True, "new": False}}),
        ("dovecot", {"connections": -1}, {"dovecot: connections": {"old": -1, "new": 30}}),
        ("sogo", {"member_of": ["pg_monitor"]}, {"sogo: member_of": {"old": ["pg_monitor"], "new": []}}),
        ("mailserver_owner", {"login": True}, {"mailserver_owner: login": {"old": True, "new": False}}),
        ("mailserver_owner", {"verifier": VERIFIER}, {"mailserver_owner: password": {"old": "one", "new": None}}),
        (
            "postfix",
            {"verifier": None},
            {"postfix: password": {"old": None, "new": "that of /opt/mail_server/postfix/database/pgpass"}},
        ),
    ],
)
def test_what_differs_of_a_role(role: str, difference: dict[str, Any], changes: dict[str, Any]) -> None:
    assert database.plan_roles(roles(**{role: difference}), PASSWORDS) == changes


def test_a_password_is_recognised_by_its_verifier_and_never_shown() -> None:
    assert database.verifies(VERIFIER, PASSWORD)
    assert not database.verifies(VERIFIER, PASSWORD + "x")
    assert not database.verifies(VERIFIER, None)
    assert not database.verifies("md5" + "0" * 32, PASSWORD)
    changes = database.plan_roles(roles(), {**PASSWORDS, "sogo": "another-another-another"})
    assert changes == {"sogo: password": {"old": "another one", "new": "that of /opt/mail_server/sogo/database/pgpass"}}


def test_connections_of_all_roles_stay_below_what_the_server_has() -> None:
    assert sum(role.connections for role in database.LOGINS) <= 90


def test_rights_are_compared_as_a_whole() -> None:
    (first, *rest) = sorted(database.GRANTS)
    stray = ("PUBLIC", "SELECT", "TABLE mail.virtual_users")
    granted, revoked = database.plan_grants([*rest, stray])
    assert (granted, revoked) == ([first], [stray])
    assert database.grant_changes([], revoked) == {
        "PUBLIC: rights": {"old": ["SELECT on TABLE mail.virtual_users"], "new": []}
    }
    assert database.plan_grants(database.GRANTS) == ([], [])


def test_a_right_on_a_table_takes_those_on_its_columns_along() -> None:
    users = "TABLE mail.virtual_users"
    assert database.taken_along([("sogo", "UPDATE", users), ("sogo", "DELETE", users)]) == [
        ("sogo", "UPDATE(password)", users)
    ]
    columns = [grant for grant in database.GRANTS if grant[0] == "postfix" and grant[1].startswith("SELECT(")]
    assert database.taken_along([("postfix", "SELECT WITH GRANT OPTION", users)]) == sorted(columns)
    others = [("dovecot", "SELECT", users), ("postfix", "SELECT", "TABLE mail.active_domains")]
    assert database.taken_along(others) == []


def test_least_rights() -> None:
    def rights(role: str) -> set[str]:
        return {privilege for name, privilege, _ in database.GRANTS if name == role}

    assert "PUBLIC" not in {role for role, _, _ in database.GRANTS}
    for reader in ("postfix", "dovecot"):
        writing = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "CREATE")
        assert not [right for right in rights(reader) if right.startswith(writing)]
    users = [right for role, right, thing in database.GRANTS if role == "postfix" and thing.endswith("virtual_users")]
    assert "SELECT" not in users
    assert "SELECT(password)" not in users
    assert {right for right in rights("sogo") if right.startswith("UPDATE")} == {"UPDATE(password)"}


def test_owners() -> None:
    assert database.plan_owners({"SCHEMA sogo": "sogo", "TABLE mail.virtual_users": "mailserver_owner"}) == {}
    assert database.plan_owners({"TABLE mail.virtual_users": "sogo", "DATABASE mailserver": "postgres"}) == {
        "TABLE mail.virtual_users": {"old": "sogo", "new": "mailserver_owner"},
        "DATABASE mailserver": {"old": "postgres", "new": "mailserver_owner"},
    }


FILES = {"0001_a": "a", "0002_b": "b", "0003_c": "c"}


def recorded(*names: str) -> dict[str, str]:
    return {name: database.checksum(FILES[name]) for name in names}


def test_pending_migrations() -> None:
    assert database.pending(FILES, {}) == list(FILES)
    assert database.pending(FILES, recorded("0001_a")) == ["0002_b", "0003_c"]
    assert database.pending(FILES, recorded(*FILES)) == []


@pytest.mark.parametrize(
    ("applied", "sentence"),
    [
        ({"0001_a": "other"}, "0001_a: has been changed since it was applied; put it back, and write a new migration"),
        (
            {**recorded(*FILES), "0004_d": "x"},
            "0004_d: is applied in the database and not in this tree: the tree is older than it",
        ),
        (recorded("0002_b"), "0001_a: stands before 0002_b, which is applied; give it the next number"),
    ],
)
def test_a_history_that_is_not_ours_is_refused(applied: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        database.pending(FILES, applied)


def test_all_migrations_on_disk_are_numbered_and_named() -> None:
    assert [path.stem for path in sorted(DIRECTORY.glob("*"))] == list(database.MIGRATIONS)
    numbers = [name.split("_")[0] for name in database.MIGRATIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.sql")), ids=lambda path: path.stem)
def test_migrations_drop_nothing_and_leave_transactions_and_public_alone(path: Any) -> None:
    text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\b(DROP|TRUNCATE|DELETE|COMMIT|ROLLBACK)\b", text, re.IGNORECASE)
    functions = re.findall(r"CREATE FUNCTION (\S+?)\(", text)
    replaced = re.findall(r"CREATE OR REPLACE FUNCTION (\S+?)\(", text)
    revoked = re.findall(r"REVOKE ALL ON FUNCTION (\S+?)\(.*\) FROM PUBLIC", text)
    assert functions == revoked, "every function is closed to PUBLIC in the transaction that makes it"
    earlier = "".join(other.read_text(encoding="utf-8") for other in DIRECTORY.glob("*.sql") if other.name < path.name)
    assert all(f"CREATE FUNCTION {name}(" in earlier for name in replaced), "what is replaced keeps its rights"
    assert text.count("SET search_path = pg_catalog, pg_temp") == len(functions + replaced)


def test_connection_files() -> None:
    role = database.BY_NAME["postfix"]
    assert database.pgpass(role, "10.100.0.25", "secret") == "10.100.0.25:5432:mailserver:postfix:secret\n"
    six = database.pgpass(role, "fd00::1", "secret")
    assert six == "fd00\\:\\:1:5432:mailserver:postfix:secret\n"
    assert database.password_in(six) == "secret"
    for text in (None, "", "something else", "a:b:c:d:e\n"):
        assert database.password_in(text) is None
    service = database.service(role, "10.100.0.25")
    assert "sslmode=verify-full\n" in service
    assert "secret" not in service


def test_passwords_of_the_pillar() -> None:
    sentence = (
        "database.passwords.sogo: is not a password of 16 to 128 letters, digits and . _ ~ -,"
        " as `openssl rand -hex 24` prints it"
    )
    for wrong in ("short", "with:colon-0123456789", 12345678901234567):
        assert sentences(changed("database", {"passwords": {"sogo": wrong}})) == [sentence]
    mailhost_pillar.parse(changed("database", {"passwords": {"sogo": "0123456789abcdef"}}))


def test_the_report() -> None:
    claims = [
        database.claim("a", True, "seen"),
        database.claim("b", False, "not seen"),
        database.claim("c", None, database.NOT_BUILT),
    ]
    assert database.report(claims) == "[x] a: seen\n[!] b: not seen\n[ ] c: not built yet\n"
    assert database.judge_claims(claims) == (["b: not seen"], ["c"], 1)


class Host:
    """A host with a database whose state the test sets; what is done to it is noted."""

    def __init__(self, state: str = "up", *, test: bool = False, **found: Any) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.found = {
            "state": state,
            "why": "connection refused",
            "exists": state == "up",
            "roles": roles() if state == "up" else {},
            "owners": dict.fromkeys(database.OWNERS, "") | database.OWNERS if state == "up" else {},
            "grants": [list(grant) for grant in database.GRANTS] if state == "up" else [],
            "migrations": {},
            "of": [],
            **found,
        }
        module = compiled.loaded("_states/mailhost_database.py")
        salt = {
            "mailhost_database.look": lambda: self.found,
            "mailhost_file.look": lambda path: self.files.get(path, {"kind": None}),
            "mailhost_database.claims": lambda address: [database.claim("a", True, "seen")],
            "mailhost_database.other_addresses": lambda address: ["192.0.2.7"],
            "cp.cache_file": lambda source: str(ROOT / source.replace(":/", "", 1)),
        }
        for name in ("make_role", "set_role", "make", "set_owner", "migrate", "grant"):
            salt[f"mailhost_database.{name}"] = self._noting(name)
        for name in ("make_directory", "replace"):
            salt[f"mailhost_file.{name}"] = self._noting(name)
        salt["mailhost_mail.of"] = lambda name: self.found["of"]
        for name in ("domain_add", "user_add_made", "alias_add"):
            salt[f"mailhost_mail.{name}"] = self._noting(name)
        for role in database.LOGINS:
            self._file(database.pgpass_path(role), database.pgpass(role, "10.100.0.25", PASSWORD))
            self._file(database.service_path(role), database.service(role, "10.100.0.25"))
            self.files[database.directory(role)] = {
                "kind": "directory", "user": "root", "group": "root", "mode": "0700"
            }  # fmt: skip
        self.context: dict[str, Any] = {}
        vars(module).update(__salt__=salt, __opts__={"test": test}, __context__=self.context)
        self.state = module

    def _file(self, path: str, text: str) -> None:
        self.files[path] = {"kind": "file", "user": "root", "group": "root", "mode": "0600", "text": text}

    def _noting(self, name: str) -> Any:
        return lambda *words, **named: self.done.append((name, *words))


SOURCES = [f"salt://database/migrations/{name}.sql" for name in database.MIGRATIONS]
NOTHING: dict[str, None] = dict.fromkeys(PASSWORDS)
STATES: list[tuple[str, dict[str, Any]]] = [
    ("connections", {"address": "10.100.0.25", "passwords": NOTHING}),
    ("roles", {"passwords": NOTHING}),
    ("made", {}),
    ("migrated", {"migrations": SOURCES}),
    ("granted", {}),
    ("test_data", {"wanted": True}),
]


@pytest.mark.parametrize(("function", "arguments"), STATES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_dry_run_predicts_what_a_run_makes_and_touches_nothing(function: str, arguments: dict[str, Any]) -> None:
    spoilt: dict[str, Any] = {
        "roles": roles(postfix={"createdb": True}),
        "owners": {**database.OWNERS, "SCHEMA mail": "sogo"},
        "grants": [],
    }
    real, dry = Host(**spoilt), Host(test=True, **spoilt)
    for host in (real, dry):
        host.files[database.pgpass_path(database.BY_NAME["sogo"])]["mode"] = "0644"
    made = getattr(real.state, function)("x", **arguments)
    predicted = getattr(dry.state, function)("x", **arguments)
    assert made["result"] is True and predicted["result"] is None
    assert made["changes"] == predicted["changes"] != {}
    assert real.done and not dry.done


@pytest.mark.parametrize(
    ("function", "arguments"), STATES[1:], ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_database_that_is_down(function: str, arguments: dict[str, Any]) -> None:
    """A dry run expects it to be as it was; a real run fails."""
    predicted = getattr(Host("down", test=True).state, function)("x", **arguments)
    assert (predicted["result"], predicted["changes"]) == (True, {})
    failed = getattr(Host("down").state, function)("x", **arguments)
    assert (failed["result"], failed["comment"]) == (False, "connection refused")


@pytest.mark.parametrize(
    ("function", "arguments"), STATES[1:], ids=lambda value: value if isinstance(value, str) else ""
)
def test_on_a_fresh_host_everything_is_pending(function: str, arguments: dict[str, Any]) -> None:
    predicted = getattr(Host("absent", test=True).state, function)("x", **arguments)
    assert predicted["result"] is None
    wanted = {
        "roles": {role.name for role in database.ROLES},
        "made": set(database.OWNERS),
        "migrated": set(database.MIGRATIONS),
        "granted": {f"{role.name}: rights" for role in database.LOGINS},
        "test_data": {"mail.test", "ada@mail.test", "postmaster@mail.test -> ada@mail.test"},
    }
    assert set(predicted["changes"]) == wanted[function]


def test_a_password_of_the_pillar_is_the_role_s_before_the_file_has_it() -> None:
    dry, real = Host(test=True), Host()
    new = {**NOTHING, "sogo": "another-another-another"}
    predicted = dry.state.roles("x", new)
    real._file(database.pgpass_path(database.BY_NAME["sogo"]), "10.100.0.25:5432:mailserver:sogo:" + str(new["sogo"]))
    made = real.state.roles("x", new)
    assert set(made["changes"]) == {"sogo: password"}
    assert predicted["changes"] == made["changes"]
    assert real.done == [("set_role", "sogo", [], "another-another-another")]


def test_data_for_tests_is_added_where_it_is_asked_for_and_missing() -> None:
    host = Host(migrations={"0001_tables": ""}, of=["mail.test", "postmaster@mail.test -> ada@mail.test"])
    assert host.state.test_data("x", wanted=False)["changes"] == {} and not host.done
    assert set(host.state.test_data("x", wanted=True)["changes"]) == {"ada@mail.test"}
    assert [words[:2] for words in host.done] == [("user_add_made", "ada@mail.test")]


def test_no_password_is_in_what_a_state_returns() -> None:
    host = Host()
    host.files.clear()
    result = host.state.connections("x", "10.100.0.25", {**NOTHING, "sogo": PASSWORD})
    written = [words for words in host.done if words[0] == "replace" and words[1].endswith("pgpass")]
    assert len(written) == len({words[2].rsplit(":", 1)[1] for words in written}) == 4
    for words in written:
        assert words[2].strip().rsplit(":", 1)[1] not in str(result)


def test_the_report_is_written_when_it_says_something_new() -> None:
    host = Host()
    assert host.state.reported("/report", "10.100.0.25")["changes"] == {"report": "written"}
    host.files["/report"] = {"kind": "file", "text": "[x] a: seen\n"}
    assert host.state.reported("/report", "10.100.0.25")["changes"] == {}
    fresh = Host("absent", test=True)
    assert fresh.state.reported("/report", "10.100.0.25")["changes"] == {"report": "written"}


@pytest.mark.parametrize(
    ("address", "listening", "changes"),
    [
        ("10.100.0.25", ["192.0.2.7"], {}),
        ("10.100.0.25", ["192.0.2.7", "172.18.0.1"], {}),  # a bridge of Docker that is down at the moment
        ("10.100.0.25", ["192.0.2.77"], {"report": "written"}),
        ("10.100.0.26", ["192.0.2.7"], {"report": "written"}),
    ],
)
def test_a_report_about_other_addresses_will_be_written_anew(
    address: str, listening: list[str], changes: dict[str, str]
) -> None:
    said = [database.login_sentence(role.name, "10.100.0.25") for role in database.LOGINS]
    said += [database.silence_sentence(other) for other in listening]
    host = Host("down", test=True)
    host.files["/report"] = {"kind": "file", "text": database.report(database.claim(line, True, "x") for line in said)}
    assert host.state.reported("/report", address)["changes"] == changes
