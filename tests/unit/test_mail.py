"""What people type for addresses, domains, quotas and lists of users."""

import re
from collections.abc import Callable
from typing import Any

import pytest

import mailhost_mail
from compiled import ROOT


@pytest.mark.parametrize(
    ("parse", "typed", "kept"),
    [
        (mailhost_mail.domain, " Example.ORG ", "example.org"),
        (mailhost_mail.address, "Ada.Lovelace+x@Example.org", "ada.lovelace+x@example.org"),
        (mailhost_mail.source, "@Example.org", "@example.org"),
        (mailhost_mail.destination, "Bob.Example@Elsewhere.example", "Bob.Example@elsewhere.example"),
        (mailhost_mail.quota, "10G", 10 * 2**30),
        (mailhost_mail.quota, "500mb", 500 * 2**20),
        (mailhost_mail.quota, 0, 0),
        (mailhost_mail.messages, "100", 100),
        (mailhost_mail.comment, " a\n b ", "a b"),
        (mailhost_mail.password, "correct horse", "correct horse"),
        (mailhost_mail.password, "ä" * 36, "ä" * 36),
    ],
)
def test_what_is_typed_and_kept(parse: Callable[[Any], Any], typed: Any, kept: Any) -> None:
    assert parse(typed) == kept


def test_a_made_password_is_long_and_no_option_of_a_program() -> None:
    made = [mailhost_mail.made_password() for _ in range(200)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[A-Za-z0-9]{21}", one) and mailhost_mail.password(one) == one for one in made)


@pytest.mark.parametrize(
    ("parse", "typed"),
    [
        (mailhost_mail.domain, "localhost"),
        (mailhost_mail.domain, "-a.example"),
        (mailhost_mail.domain, "bücher.example"),
        (mailhost_mail.domain, "a..example"),
        (mailhost_mail.address, "ada"),
        (mailhost_mail.address, "@example.org"),
        (mailhost_mail.address, "../x@example.org"),
        (mailhost_mail.address, "a..b@example.org"),
        (mailhost_mail.address, "a.@example.org"),
        (mailhost_mail.address, "a/b@example.org"),
        (mailhost_mail.address, "x' or 1@example.org"),
        (mailhost_mail.address, "a" * 65 + "@example.org"),
        (mailhost_mail.destination, "a,b@example.org"),
        (mailhost_mail.destination, "|/bin/sh@example.org"),
        (mailhost_mail.destination, "a b@example.org"),
        (mailhost_mail.quota, "ten"),
        (mailhost_mail.quota, "-1"),
        (mailhost_mail.messages, "1.5"),
        (mailhost_mail.password, "short"),
        (mailhost_mail.password, "ä" * 37),
        (mailhost_mail.password, "with\ttab-with"),
        (mailhost_mail.hashed, "{PLAIN}correct horse battery"),
        (mailhost_mail.hashed, "{BLF-CRYPT}$2y$04$" + "a" * 53),
    ],
)
def test_what_cannot_be_is_refused(parse: Callable[[Any], Any], typed: str) -> None:
    with pytest.raises(ValueError):
        parse(typed)


def test_a_secret_is_never_in_the_sentence() -> None:
    for parse, secret in ((mailhost_mail.password, "geheim"), (mailhost_mail.hashed, "{PLAIN}geheim")):
        with pytest.raises(ValueError) as refused:
            parse(secret)
        assert "geheim" not in str(refused.value)


def test_the_database_and_the_tool_know_the_same_schemes() -> None:
    text = (ROOT / "salt/database/migrations/0001_tables.sql").read_text(encoding="utf-8")
    assert set(re.findall(r"password ~ '\^\\\{([A-Z0-9-]+)\\\}", text)) == set(mailhost_mail.HASHES)


def test_a_list_of_users() -> None:
    rows, errors = mailhost_mail.users(
        '\ufeffEmail,Password,Quota,Comment\r\nada@example.org,"with, comma and ""quote""",1G,Ada\r\n\r\nbob@example.org,,,\r\n'
    )
    assert errors == []
    assert rows == [
        {
            "email": "ada@example.org",
            "password": 'with, comma and "quote"',
            "quota_bytes": 2**30,
            "quota_messages": 0,
            "comment": "Ada",
        },
        {"email": "bob@example.org", "quota_bytes": 0, "quota_messages": 0, "comment": ""},
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["line 1: the columns are none; there may be email, password, hash, quota, messages, comment"]),
        ("mail\nx\n", ["line 1: the columns are mail; there may be email, password, hash, quota, messages, comment"]),
        ("email\n", ["the list is empty"]),
        ("email,quota\na@example.org\n", ["line 2: has 1 columns, not 2"]),
        ("email\na@example.org\nA@example.org\n", ["line 3: a@example.org is in line 2 too"]),
        (
            "email,password,hash\na@example.org,correct horse,{BLF-CRYPT}$2y$12$" + "a" * 53,
            ["line 2: has a password and a hash"],
        ),
        (
            "email,password,messages\nnobody,short,many\n",
            [
                "line 2: nobody: is not an address such as ada@example.org (before the @: letters, digits and . _ + - = ')",
                "line 2: many: is not a number of messages",
                "line 2: the password has not 10 to 72 bytes",
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_a_list_is_said(text: str, sentences: list[str]) -> None:
    assert mailhost_mail.users(text)[1] == sentences


def test_a_list_of_aliases() -> None:
    rows, errors = mailhost_mail.aliases(
        "source,destination\nSales@example.org,Ada@Example.org\nsales@example.org,bob@example.org\n@example.com,a@b.example\n"
    )
    assert errors == []
    assert [(row["source"], row["destination"], row["comment"]) for row in rows] == [
        ("sales@example.org", "Ada@example.org", ""),
        ("sales@example.org", "bob@example.org", ""),
        ("@example.com", "a@b.example", ""),
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("source\n", ["line 1: the columns are source; there may be source, destination, comment"]),
        (
            "source,destination\na@example.org,b@example.org\nA@example.org,b@example.org\n",
            ["line 3: a@example.org -> b@example.org is in line 2 too"],
        ),
        (
            "source,destination\nx,|/bin/sh\n",
            [
                "line 2: x: is not an address such as ada@example.org (before the @: letters, digits and . _ + - = ')",
                "line 2: |/bin/sh: is not an address such as ada@example.org",
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_a_list_of_aliases_is_said(text: str, sentences: list[str]) -> None:
    assert mailhost_mail.aliases(text)[1] == sentences
