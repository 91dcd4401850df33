"""Moments as operators write them, and as they are printed. Pure."""

from __future__ import annotations

import datetime
import re

from .config import Refused

_ZONE = re.compile(r"(?:[zZ]|UTC|[+-]\d{2}(?::?\d{2})?)$")


def parse(text: str) -> datetime.datetime:
    """Return the moment that a text names.

    text
        Date, time and zone: 2026-11-22 14:03:05+00, 2026-11-22T14:03:05.25Z, 2026-11-22 15:03 +01:00.

    Raises Refused when it is no moment, or when its zone is not said: a restore to another hour than meant would look
    like one that worked.
    """
    text = text.strip()
    try:
        moment = datetime.datetime.fromisoformat(re.sub(r"\s*UTC$", "Z", text).replace(" +", "+").replace(" -", "-"))
    except ValueError:
        raise Refused(f"{text!r} is not a time such as '2026-11-22 14:03:05+00'") from None
    if moment.tzinfo is None or not _ZONE.search(text):
        raise Refused(f"{text!r} does not say its time zone: write it as in '{text}+00', which is UTC")
    return moment.astimezone(datetime.UTC)


def of(seconds: float) -> datetime.datetime:
    """Return the moment that is some seconds after the beginning of 1970."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def shown(moment: datetime.datetime) -> str:
    """Return a moment for people and for PostgreSQL, in UTC: 2026-11-22 14:03:05+00, with fractions if it has them."""
    kept = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return f"{kept.isoformat(' ', 'microseconds' if kept.microsecond else 'seconds')}+00"
