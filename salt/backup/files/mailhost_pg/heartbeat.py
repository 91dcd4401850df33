"""The heartbeat in the live database, and what is in the database at the moment of one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

# Whose rows are counted and compared: ours. SOGo's are nobody's to lock; pg_amcheck reads them all the same.
SCHEMAS = ("mail", "backup")
_KEPT = "30 days"
# Two sessions print rows alike only with the same settings.
_SETTINGS = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET statement_timeout = '5min';\n"


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in a database: its last migration, and rows by table, with a number that no other rows have."""

    databases: tuple[str, ...]
    schema: str | None
    rows: dict[str, int]
    prints: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Moment:
    """A heartbeat in the live database: its transaction, when it was, where the WAL is after it, what was there."""

    transaction: int
    at: float
    lsn: str
    segment: str
    contents: Contents


def beat_sql(source: str) -> str:
    """Return what writes a heartbeat, and forgets those of long ago.

    source
        Who writes it: backup, check or drill.
    """
    return (
        f"DELETE FROM backup.heartbeat WHERE beat_at < now() - interval '{_KEPT}';\n"
        f"INSERT INTO backup.heartbeat (source) VALUES ('{source}');\n"
    )


def tables_sql() -> str:
    """Return what lists the tables that are compared, as a JSON list of quoted names."""
    names = ", ".join(f"'{schema}'" for schema in SCHEMAS)
    return (
        "SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind = 'r' AND n.nspname IN ({names})"
    )


def contents_sql(tables: Sequence[str]) -> str:
    """Return what reads the contents of tables, as one JSON object; `parse_contents` reads it.

    The number is a sum over all rows, which does not depend on their order.
    """
    each = "".join(
        f", {_literal(table)}, (SELECT json_build_array(count(*),"
        f" coalesce(sum(hashtextextended(t::text, 0)), 0)::text) FROM ONLY {table} t)"
        for table in tables
    )
    return (
        f"{_SETTINGS}SELECT json_build_object("
        "'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database),"
        f" 'schema', (SELECT max(name) FROM mail.schema_migrations), 'tables', json_build_object({each[2:]}));\n"
    )


def moment_sql(tables: Sequence[str]) -> str:
    """Return what writes a heartbeat and reads the contents of the tables at exactly its commit.

    Nobody writes to the tables meanwhile, which takes milliseconds; where somebody is at it, this fails at once with
    "could not obtain lock", and is to be tried again: it never waits while others wait for it.
    """
    settings, _, query = contents_sql(tables).partition("\n")
    return (
        f"{settings}\nBEGIN;\nLOCK TABLE {', '.join(tables)} IN SHARE MODE NOWAIT;\n"
        "INSERT INTO backup.heartbeat (source) VALUES ('drill')"
        " RETURNING json_build_object('transaction', transaction::text, 'at', extract(epoch FROM beat_at));\n"
        f"{query}COMMIT;\n"
        # The byte before: at a segment's very end, the next one is never archived on an idle server.
        "SELECT json_build_object('lsn', pg_current_wal_insert_lsn(),"
        " 'segment', pg_walfile_name(pg_current_wal_insert_lsn() - 1));\n"
        "SELECT '{}' FROM pg_switch_wal();\n"
    )


def parse_contents(said: dict[str, Any]) -> Contents:
    """Return contents from the object that `contents_sql` gives."""
    return Contents(
        tuple(said["databases"]),
        said["schema"],
        {table: found[0] for table, found in said["tables"].items()},
        {table: found[1] for table, found in said["tables"].items()},
    )


def parse_moment(text: str) -> Moment:
    """Return a heartbeat from the lines that `moment_sql` gives."""
    beat, contents, wal = (json.loads(line) for line in text.splitlines()[:3])
    return Moment(int(beat["transaction"]), float(beat["at"]), wal["lsn"], wal["segment"], parse_contents(contents))


def differences(live: Contents, restored: Contents) -> list[str]:
    """Return in words what of a restored database is not as the live one was."""
    found = []
    if live.databases != restored.databases:
        found.append(f"the databases are {', '.join(restored.databases)}, and were {', '.join(live.databases)}")
    if live.schema != restored.schema:
        found.append(f"the schema is at {restored.schema}, and was at {live.schema}")
    for table, rows in live.rows.items():
        if table not in restored.rows:
            found.append(f"{table} is missing")
        elif restored.rows[table] != rows:
            found.append(f"{table} has {restored.rows[table]} rows, and had {rows}")
        elif restored.prints[table] != live.prints[table]:
            found.append(f"{table} has other rows than it had")
    return found


def _literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
