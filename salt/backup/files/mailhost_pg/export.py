"""Write a table, or one domain's rows, as they were at a moment: from a backup that is restored beside the database."""

from __future__ import annotations

import argparse
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from . import plan, recovery, restore, scratch
from .config import Config, Failed, Refused, alone

# Where one domain's rows are, each with the column that says so; in the order that their references ask for.
DOMAIN = (
    ("virtual_domains", "name"),
    ("virtual_domains", "alias_of"),
    ("virtual_users", "domain"),
    ("virtual_aliases", "domain"),
)
SCHEMA = "mail"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    restore.target_options(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", help="this table's rows: mail.virtual_users")
    what.add_argument("--domain", help="this domain's rows, with its users, aliases and other names")
    parser.add_argument("--output", metavar="FILE", help="where to; it must not be there (mail-rows-TIME.sql)")


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it: SQL that adds what is missing, and leaves alone what is there."""
    wanted = restore.target(config, asked)
    if asked.table and not re.fullmatch(r"[a-z_]\w*\.[a-z_]\w*", asked.table):
        raise Refused(f"{asked.table!r} is no table such as mail.virtual_users")
    if asked.domain and not re.fullmatch(r"[a-z0-9.-]+", asked.domain):
        raise Refused(f"{asked.domain!r} is no domain in small letters such as example.org")
    output = Path(asked.output or f"mail-rows-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sql")
    if output.exists():
        raise Refused(f"{output} is there already")
    with alone(wait=False):
        directory = restore.clear_export(config)
        found, way = restore.chosen(config, asked, wanted, fresh=True)
        restore.require_room(config, way)
        print(f"This writes rows of {plan.summary(way, datetime.now(UTC))}.")
        off = asked.repository > 1
        with (
            restore.interruptible(),
            scratch.Scratch(config, restore.EXPORT, directory, network=off, wal=found.wal) as room,
        ):
            recovery.recover(room, asked.repository, way)
            text = _table(room, asked.table) if asked.table else _domain(room, asked.domain)
    # Hashes of passwords are among the rows.
    with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    count = len(re.findall("^INSERT INTO", text, re.MULTILINE))
    print(f"{output} has {count} rows; this adds those that are missing:")
    print(f"docker exec -i {config.container} psql -qv ON_ERROR_STOP=1 -U postgres {config.database} <{output}")
    return 0


def _table(room: scratch.Scratch, table: str) -> str:
    """Return a table's rows as INSERT statements."""
    dump = [
        "pg_dump",
        "--username=postgres",
        f"--host={recovery.SOCKETS}",
        "--data-only",
        "--column-inserts",
        "--on-conflict-do-nothing",
    ]
    try:
        return room.run(*dump, f"--table={table}", room.config.database)
    except Failed as error:
        if "no matching tables" in str(error):
            raise Refused(f"there was no table {table} then") from None
        raise


def _domain(room: scratch.Scratch, domain: str) -> str:
    """Return a domain's rows as INSERT statements in one transaction; generated columns are left out."""
    found = []
    for table, column in DOMAIN:
        # Statements that write the statements: the columns are those that the table had then.
        query = f"""
            with columns as (
                select string_agg(quote_ident(attname), ', ' order by attnum) as names,
                    string_agg(format('quote_nullable(%I)', attname), ', ' order by attnum) as texts
                from pg_attribute
                where attrelid = '{SCHEMA}.{table}'::regclass and attnum > 0 and not attisdropped and attgenerated = ''
            )
            select format('select %L || concat_ws(%L, %s) || %L from {SCHEMA}.{table} where {column} = %L order by 1',
                'INSERT INTO {SCHEMA}.{table} (' || names || ') VALUES (', ', ', texts,
                ') ON CONFLICT DO NOTHING;', '{domain}')
            from columns
            \\gexec
        """
        found.append(recovery.sql(room, query, room.config.database))
    if not any(found):
        raise Refused(f"there was no domain {domain} then")
    return "\n".join(["BEGIN;", *filter(None, found), "COMMIT;", ""])
