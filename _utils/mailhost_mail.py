"""Addresses, domains, quotas and lists of users as people write them. Pure.

Every parser raises ValueError with a sentence. What a person types is folded to the one spelling the database has.
"""

import csv
import io
import re
import secrets
import string
from collections.abc import Callable, Iterable
from typing import Any

DOMAIN = r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# What a path on a mail server and every mail program take without trouble; RFC 5322 allows more.
LOCAL = r"[a-z0-9_](?:[a-z0-9_+='-]|\.(?=[a-z0-9_+='-]))*"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# bcrypt reads 72 bytes and no more.
SHORTEST, LONGEST = 10, 72
HASHES = {
    "BLF-CRYPT": r"\$2[aby]\$(1\d|2\d|3[01])\$[./A-Za-z0-9]{53}",
    "SHA512-CRYPT": r"\$6\$(rounds=\d{4,9}\$)?[./A-Za-z0-9]{8,16}\$[./A-Za-z0-9]{86}",
    "ARGON2ID": r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[+/A-Za-z0-9]{11,}\$[+/A-Za-z0-9]{43,}",
}
# Letters and digits: with a dash first a password is an option to the programs that it is tried with.
MADE_OF, MADE_LENGTH = string.ascii_letters + string.digits, 21  # 125 bits
COLUMNS = ("email", "password", "hash", "quota", "messages", "comment")
ALIAS_COLUMNS = ("source", "destination", "comment")

# What is there to try things on where the pillar asks for it. No name below .test is anybody's (RFC 6761, 6.2).
TEST_DOMAIN = "mail.test"
TEST_USER = f"ada@{TEST_DOMAIN}"
TEST_ALIAS = (f"postmaster@{TEST_DOMAIN}", TEST_USER)


def made_password() -> str:
    """Return a new random password."""
    return "".join(secrets.choice(MADE_OF) for _ in range(MADE_LENGTH))


def domain(value: Any) -> str:
    """Return a domain as the database spells it."""
    text = str(value).strip().lower()
    if not text.isascii():
        raise ValueError(f"{value}: has letters that DNS has not: write it as DNS does, xn--…")
    if not re.fullmatch(DOMAIN, text):
        raise ValueError(f"{value}: is not a domain such as example.org")
    return text


def address(value: Any) -> str:
    """Return a mailbox's address as the database spells it."""
    text = str(value).strip().lower()
    local, at, name = text.rpartition("@")
    if not at or not re.fullmatch(LOCAL, local) or len(local) > 64:
        raise ValueError(
            f"{value}: is not an address such as ada@example.org (before the @: letters, digits and . _ + - = ')"
        )
    return f"{local}@{domain(name)}"


def source(value: Any) -> str:
    """Return an alias's address, or a catch-all's ``@example.org``, as the database spells it."""
    text = str(value).strip()
    return f"@{domain(text[1:])}" if text.startswith("@") else address(text)


def destination(value: Any) -> str:
    """Return where mail goes: an address anywhere, whose local part stays as it is."""
    local, at, name = str(value).strip().rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9_][!#-'*+\--9=?A-Z^-~.]{0,63}", local):
        raise ValueError(f"{value}: is not an address such as ada@example.org")
    return f"{local}@{domain(name)}"


def quota(value: Any) -> int:
    """Return a number of bytes, written as such or as ``10G``; 0 is no limit."""
    matched = re.fullmatch(r"(\d{1,15})([KMGT]?)", str(value).strip().upper().removesuffix("B"))
    if not matched:
        raise ValueError(f"{value}: is not a size such as 10G or 500M")
    return int(matched[1]) * UNITS[matched[2]]


def messages(value: Any) -> int:
    """Return a number of messages; 0 is no limit."""
    if not re.fullmatch(r"\d{1,12}", str(value).strip()):
        raise ValueError(f"{value}: is not a number of messages")
    return int(value)


def password(value: str) -> str:
    """Return a password that can be one. It is never in the sentence that says what is wrong with it."""
    if not SHORTEST <= len(value.encode()) <= LONGEST:
        raise ValueError(f"the password has not {SHORTEST} to {LONGEST} bytes")
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("the password has control characters")
    return value


def hashed(value: str) -> str:
    """Return a password's hash with its scheme before it, as Dovecot reads it. It is never in the sentence."""
    matched = re.fullmatch(r"\{([A-Z0-9-]+)\}(.+)", value.strip())
    if not matched or matched[1] not in HASHES or not re.fullmatch(HASHES[matched[1]], matched[2]):
        raise ValueError(
            f"the hash is not one as doveadm pw prints it, of {', '.join(HASHES)} (bcrypt's cost 10 at least)"
        )
    return value.strip()


def comment(value: Any) -> str:
    """Return a comment in one line."""
    return " ".join(str(value).split())


def user(email: Any, size: Any, count: Any, note: Any) -> dict[str, Any]:
    """Return a user as the database has it, without the password."""
    return {
        "email": address(email),
        "quota_bytes": quota(size or 0),
        "quota_messages": messages(count or 0),
        "comment": comment(note or ""),
    }


def plan_test_data(there: Iterable[str]) -> dict[str, Any]:
    """Return which test data is missing. Params: there, what the domain has, as ``mailhost_mail.of`` returns it."""
    wanted = (TEST_DOMAIN, TEST_USER, " -> ".join(TEST_ALIAS))
    known = set(there)
    return {name: {"old": None, "new": "added"} for name in wanted if name not in known}


def users(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the users of a list in CSV, and a sentence for each thing that is wrong with it.

    The first line names the columns: email, password or hash (neither: a password is made), quota, messages, comment.
    """
    return _listed(text, COLUMNS, ("email",), _user_row)


def aliases(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the aliases of a list in CSV, and a sentence for each thing that is wrong with it.

    The first line names the columns: source, destination (a line for each), comment.
    """
    return _listed(text, ALIAS_COLUMNS, ("source", "destination"), _alias_row)


def _listed(
    text: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    parse: Callable[[dict[str, str]], tuple[dict[str, Any], list[str]]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a list in CSV, each read by ``parse``, and what is wrong with it; no two have the same key."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    seen: dict[str, int] = {}
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not set(key) <= set(header) <= set(columns) or len(set(header)) != len(header):
            return [], [f"line 1: the columns are {', '.join(header) or 'none'}; there may be {', '.join(columns)}"]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"line {reader.line_num}"
            if len(cells) != len(header):
                errors.append(f"{where}: has {len(cells)} columns, not {len(header)}")
                continue
            found, wrong = parse(dict(zip(header, cells, strict=True)))
            errors += [f"{where}: {sentence}" for sentence in wrong]
            rows.append(found)
            if not set(key) <= set(found):
                continue
            name = " -> ".join(found[column] for column in key)
            if name in seen:
                errors.append(f"{where}: {name} is in line {seen[name]} too")
            seen.setdefault(name, reader.line_num)
    except csv.Error as error:
        errors.append(f"line {reader.line_num}: {error}")
    if not rows and not errors:
        errors.append("the list is empty")
    return rows, errors


def _parsed_row(
    row: dict[str, str], parsers: dict[str, tuple[str, Callable[[Any], Any], str]]
) -> tuple[dict[str, Any], list[str]]:
    """Return what each parser makes of its column (its default where that is empty), and what is wrong."""
    found: dict[str, Any] = {}
    wrong = []
    for name, (column, parse, default) in parsers.items():
        try:
            found[name] = parse(row.get(column) or default)
        except ValueError as error:
            wrong.append(str(error))
    return found, wrong


def _alias_row(row: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return one line's alias, as far as it can be read, and what is wrong with it."""
    return _parsed_row(
        row,
        {
            "source": ("source", source, ""),
            "destination": ("destination", destination, ""),
            "comment": ("comment", comment, ""),
        },
    )


def _user_row(row: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return one line's user, as far as it can be read, and what is wrong with it."""
    found, wrong = _parsed_row(
        row,
        {
            "email": ("email", address, ""),
            "quota_bytes": ("quota", quota, "0"),
            "quota_messages": ("messages", messages, "0"),
            "comment": ("comment", comment, ""),
        },
    )
    if row.get("password") and row.get("hash"):
        wrong.append("has a password and a hash")
    for column, check in (("password", password), ("hash", hashed)):
        if row.get(column):
            try:
                found[column] = check(row[column])
            except ValueError as error:
                wrong.append(str(error))
    return found, wrong
