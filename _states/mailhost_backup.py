"""Backups of the database, exact in a dry run: also before Docker, the container and the cluster are there."""

import datetime

from salt.exceptions import CommandExecutionError

import mailhost_backup
import mailhost_forecast
import mailhost_postgres
from mailhost_result import explained, outcome

__all__ = ["backed_up", "drilled", "kept", "not_streamed", "reached", "stanza", "streamed"]


# Where what pgBackRest said last is kept.
_SEEN = "mailhost_backup.info"


@explained
def kept(name, encrypted):
    """Let backups that are there stay what they are: encrypted, or not.

    encrypted
        Whether they should be; the other kind is refused before anything is touched.
    """
    archive = __salt__["mailhost_backup.archive"]()
    mailhost_backup.refuse_cipher(archive, encrypted)
    return outcome((__opts__, __context__), name, {}, None, "as they began" if archive["there"] else "none yet")


@explained
def stanza(name, image, uid, offsite):
    """Let every repository take WAL of the cluster in the data directory.

    image, uid
        What the container is made from, and as whom it runs.
    offsite
        Whether there is a second repository.
    """
    archive, cluster = __salt__["mailhost_backup.archive"](), __salt__["mailhost_postgres.cluster"]()["data"].get("id")
    numbers, unasked = mailhost_backup.numbers(offsite), []
    if not archive["there"]:
        repositories = {number: {"id": None, "why": None} for number in numbers}
    elif archive["id"] and not offsite:
        # Plain, and the only one: its own file says it.
        repositories = {1: {"id": archive["id"], "why": None}}
    else:
        found = _info(image, uid)
        unasked = [number for number in numbers if found and number not in found["repositories"]]
        # One that pgBackRest is not told of yet, as in a dry run that would tell it, is not in its answer.
        unknown = {number: {"id": None, "why": None} for number in numbers}
        repositories = {**unknown, **found["repositories"]} if found else {}
    changes = mailhost_backup.plan_stanza(repositories, cluster)
    anew = [change["old"] for change in changes.values() if change["old"]]

    def act():
        if len(anew) < len(changes):
            try:
                __salt__["mailhost_backup.make_stanza"](image, uid, False)
            except CommandExecutionError:
                # The host's own is made before pgBackRest stops at one with another cluster's backups, which stay.
                now = __salt__["mailhost_postgres.cluster"]()["data"].get("id")
                if not offsite or not mailhost_backup.foreign(_info(image, uid)["repositories"], now):
                    raise
        if anew:
            __salt__["mailhost_backup.make_stanza"](image, uid, True)
        __context__.pop(_SEEN, None)

    silent = [f"repository {number}: {found['why']}" for number, found in repositories.items() if found["why"]]
    result = outcome((__opts__, __context__), name, changes, act, "; ".join(silent) or f"for cluster {cluster}")
    for number in unasked:
        result["comment"] += f"; what repository {number} has already is seen when its settings are there"
    return result


@explained
def backed_up(name, image, uid, offsite):
    """Let every repository have a base backup of the cluster, so that from now on any second can be restored.

    image, uid, offsite
        As ``stanza``.
    """
    archive, cluster = __salt__["mailhost_backup.archive"](), __salt__["mailhost_postgres.cluster"]()["data"].get("id")
    numbers = mailhost_backup.numbers(offsite)
    found = _info(image, uid) if archive["there"] and cluster else {"repositories": {}, "backups": []}
    changes = {}
    if found is not None:
        mailhost_backup.refuse_foreign(found["repositories"], cluster)
        backed = {backup["database"]["repo-key"] for backup in found["backups"]}
        out_of_reach = {number for number, repository in found["repositories"].items() if repository["why"]}
        for number in numbers:
            mine = found["repositories"].get(number, {"id": None})["id"] == cluster and number in backed
            if not mine and number not in out_of_reach:
                changes[f"repository {number}"] = {"old": None, "new": "a full backup"}

    def act():
        for number in numbers:
            if f"repository {number}" in changes:
                __salt__["mailhost_backup.run"]("backup", "--type=full", f"--repository={number}")
        __context__.pop(_SEEN, None)

    return outcome((__opts__, __context__), name, changes, act, "there is one")


@explained
def drilled(name, image, uid, offsite, drill):
    """Let there be a proof for each repository, young enough, that it can be restored from.

    image, uid, offsite
        As ``stanza``.
    drill
        The pillar's section.
    """
    now = datetime.datetime.now(datetime.UTC)
    wrong = mailhost_backup.judge_drills(__salt__["mailhost_backup.drills"](), drill, offsite, now)
    silent = _silent(image, uid) if offsite and wrong else {}
    changes = {f"repository {one}": {"old": why, "new": "passed"} for one, why in wrong.items() if one not in silent}

    def act():
        for number in wrong:
            if number not in silent:
                __salt__["mailhost_backup.run"]("drill", f"--repository={number}")

    return outcome((__opts__, __context__), name, changes, act, "there is a proof")


@explained
def reached(name, image, uid, offsite):
    """Fail when a repository cannot be looked at. It comes last: what does not need that one is done then.

    image, uid, offsite
        As ``stanza``.
    """
    for number, why in _silent(image, uid).items() if offsite else ():
        raise CommandExecutionError(
            f"repository {number} cannot be looked at, so what it lacks is not known and not made: {why}"
        )
    return outcome((__opts__, __context__), name, {}, None, "each can be looked at")


def _silent(image, uid):
    """Return the repositories that cannot be looked at, and why; none while there is no cluster to ask for."""
    archive = __salt__["mailhost_backup.archive"]()
    found = _info(image, uid) if archive["there"] else None
    return {number: row["why"] for number, row in found["repositories"].items() if row["why"]} if found else {}


@explained
def streamed(name):
    """Let what takes WAL as it is written have a role to connect as, and a slot that keeps WAL for it."""
    changes = mailhost_backup.plan_tail(__salt__["mailhost_backup.tail"]())
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_backup.make_tail"](changes),
        "they are there",
    )


@explained
def not_streamed(name, directory):
    """Let nothing take WAL as it is written, and no slot keep WAL for it.

    directory
        Where it went to.
    """
    there = __salt__["mailhost_backup.tail_there"](directory)
    changes = mailhost_backup.plan_no_tail(there)
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_backup.end_tail"](directory, there),
        "there is nothing of it",
    )


def _info(image, uid):
    """Return what pgBackRest says of the repositories; None in a dry run that would make it answer first.

    One that does not answer is waited for once in a run; what a state makes takes what was seen away.
    """
    try:
        if _SEEN not in __context__:
            __context__[_SEEN] = __salt__["mailhost_backup.info"](image, uid)
        found = __context__[_SEEN]
    except CommandExecutionError:
        if __opts__["test"] and mailhost_forecast.applied(__context__, "changed", {}):
            return None
        raise
    if __opts__["test"] and _told_anew():
        # By the settings that are there now. What does not answer by them is new with those to come, as far as we know.
        answering = {number: row for number, row in found["repositories"].items() if not row["why"]}
        return {**found, "repositories": answering}
    return found


def _told_anew():
    """Return whether this dry run would give pgBackRest other settings."""
    changed = mailhost_forecast.applied(__context__, "changed", {})
    return any(path.startswith(f"{mailhost_postgres.PGBACKREST}/") for path in changed)
