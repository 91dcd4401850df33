"""The frame of every task: it begins, it is proven; and the tracker's look at it."""

from salt.exceptions import CommandExecutionError

import mailhost_proof
import mailhost_registry
from mailhost_result import PENDING, explained

__all__ = ["begins", "proven", "seen"]


@explained
def begins(name, task):
    """Take the host for this run and tell the operator which task begins.

    task
        The task's id.
    """
    if __salt__["mailhost_lock.take"]() and not __opts__["test"] and (said := __salt__["mailhost_guard.settle"]()):
        __salt__["mailhost_lock.tell"](note=said)
    __salt__["mailhost_lock.tell"](task=task)
    return _said(name, True, mailhost_registry.by_id(task).title)


@explained
def proven(name, task, check):
    """Prove on the host that a task is done; the comment is the mark and the evidence.

    task, check
        The task's id and its function of ``mailhost_checks``.

    A dry run that predicts changes can prove nothing that stands on them: it says what is true now and does not fail,
    not even when what the proof asks is not there yet.
    """
    pending = __opts__["test"] and __context__.get(PENDING, False)
    try:
        found = __salt__[f"mailhost_checks.{check}"]()
    except CommandExecutionError as error:
        if not pending:
            raise
        found = mailhost_proof.proof(mailhost_proof.OPEN, str(error))
    holds = found["mark"] in (mailhost_proof.DONE, mailhost_proof.PARTLY)
    return _said(name, holds or pending, mailhost_proof.comment(found))


@explained
def seen(name, task, check):
    """Say what is true of a task now; only a look that cannot be made is a failure.

    task, check
        The task's id and its function of ``mailhost_checks``, empty while the task is not built.
    """
    found = (
        __salt__[f"mailhost_checks.{check}"]() if check else mailhost_proof.proof(mailhost_proof.OPEN, "not built yet")
    )
    return _said(name, True, mailhost_proof.comment(found))


def _said(name, result, comment):
    return {"name": name, "result": result, "changes": {}, "comment": comment}
