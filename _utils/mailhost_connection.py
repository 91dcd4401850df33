"""A connection to PostgreSQL by psycopg, which errs in the words of this tree. On the host only."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from salt.exceptions import CommandExecutionError

from mailhost_database import NAME, SOCKET_DIRECTORY

SUPERUSER = "postgres"
SECONDS = 10


def driver() -> Any:
    """Return psycopg with its ``sql``, which Debian's package brings, perhaps in this very run."""
    importlib.invalidate_caches()
    try:
        importlib.import_module("psycopg.sql")
        return importlib.import_module("psycopg")
    except ImportError:
        raise CommandExecutionError("python3-psycopg is not installed: apply database.schema") from None


@contextlib.contextmanager
def connected(database: str = NAME, **wanted: Any) -> Iterator[Any]:
    """Connect to PostgreSQL, as its superuser over the host's own socket unless ``wanted`` says otherwise.

    Each statement is a transaction of its own, unless ``transaction()`` of what is yielded is used.

    Raises CommandExecutionError with the server's words when it does not let us in or refuses a statement.
    """
    psycopg = driver()
    parameters = {"host": SOCKET_DIRECTORY, "user": SUPERUSER, "connect_timeout": SECONDS, **wanted}
    try:
        with psycopg.connect(dbname=database, autocommit=True, **parameters) as connection:
            yield connection
    except psycopg.Error as error:
        raise CommandExecutionError(f"PostgreSQL: {words(error)}") from None


def words(error: Exception) -> str:
    """Return what the server or libpq said, in one line."""
    return " / ".join(line.strip() for line in str(error).splitlines() if line.strip())[:800]
