"""What a run did, by task, for people and programs. Pure: from Salt's results to text."""

import textwrap
from typing import Any

import mailhost_proof
import mailhost_registry
from mailhost_proof import BLOCKED, DONE, OPEN

Row = dict[str, Any]


def rows(returned: Any) -> list[Row]:
    """Return one row a task: id, title, mark, evidence, changes (what the run changed or would), failures.

    returned
        Salt's results by state key, or what came instead of them: then every task is open.
    """
    states = _states(returned)
    table = []
    for task in mailhost_registry.TASKS:
        mine = [state for state in states if state["task"] == task.id]
        table.append(_row(task, mine))
    return table


def _states(returned: Any) -> list[dict[str, Any]]:
    """Return Salt's results in the order they ran, each with its task's id and its own."""
    if not isinstance(returned, dict):
        return []
    sls = {task.sls: task.id for task in mailhost_registry.TASKS if task.sls}
    found = []
    for key, result in returned.items():
        if isinstance(result, dict) and "result" in result:
            state_id = result.get("__id__") or key.split("_|-")[1]
            task = sls.get(result.get("__sls__", ""), state_id.split(" ")[0])
            found.append({**result, "id": state_id, "task": task})
    return sorted(found, key=lambda state: state.get("__run_num__", 0))


def _row(task: mailhost_registry.Task, states: list[dict[str, Any]]) -> Row:
    proofs = [found for state in states if (found := mailhost_proof.read(state["comment"]))]
    failed = [state for state in states if state["result"] is False]
    failures = [f"{state['id']}: {_comment(state)}" for state in failed if not _stopped(state)]
    changes = [(state["id"], state["changes"], state["result"]) for state in states if state["changes"]]
    row = {"id": task.id, "title": task.title, "mark": OPEN, "evidence": "", "changes": changes, "failures": failures}
    if not task.built:
        row["evidence"] = "not built yet"
    elif proofs:
        row.update(mark=proofs[-1]["mark"], evidence=proofs[-1]["evidence"])
    elif not states:
        row["evidence"] = "not part of this run"
    if failed:
        row.update(mark=BLOCKED, evidence=failures[0] if failures else f"waits for {_stopped(failed[0])}")
    return row


def _stopped(state: dict[str, Any]) -> str:
    """Return the task whose failure kept a state from running, "" when it ran."""
    words = _comment(state)
    if not words.startswith("One or more requisite failed: "):
        return ""
    tasks = {task.sls: task.id for task in mailhost_registry.TASKS if task.sls}
    return next((task_id for sls, task_id in tasks.items() if f" {sls}." in words), "an earlier state")


def _comment(state: dict[str, Any]) -> str:
    """Return a state's comment in one line; of a traceback, only what it ends with."""
    words = str(state["comment"]).strip()
    return words.splitlines()[-1] if "Traceback (most recent call last)" in words else " ".join(words.split())


def text(host: str, returned: Any) -> str:
    """Return a host's run as text: changes and failures in full, the table of tasks, and one line that sums up."""
    if not isinstance(returned, dict):
        return f"{host}: {_words(returned)}"
    lines = []
    table = rows(returned)
    for row in table:
        for state_id, changes, result in row["changes"]:
            lines.append(f"{row['id']} {state_id}{'' if result is not None else ' (would change)'}")
            lines += [f"    {name}: {_change(value)}" for name, value in changes.items()]
        lines += [f"{row['id']} FAILED {failure}" for failure in row["failures"]]
    lines += [""] if lines else []
    lines.append(f"{host}:")
    took_part = {state["task"] for state in _states(returned)}
    whole = all(task.id in took_part for task in mailhost_registry.built())
    shown = [row for row in table if whole or row["id"] in took_part]
    width = max((len(row["title"]) for row in shown), default=0)
    lines += [_line(row, width) for row in shown]
    lines.append(summary(host, returned))
    return "\n".join(lines)


def local(returned: Any) -> str:
    """Return a run on the workstation itself as text: what changed, or would, and what each state says."""
    if not isinstance(returned, dict):
        return _words(returned)
    lines = []
    for state in _states(returned):
        would = " (would change)" if state["result"] is None else ""
        lines.append(f"{state['id']}{would if state['result'] is not False else ' FAILED'}")
        lines += [f"    {name}: {_change(value)}" for name, value in state["changes"].items()]
        if not state["changes"] or "\n" in state["comment"]:
            lines.append(textwrap.indent(str(state["comment"]).strip(), "    "))
    return "\n".join(lines)


def _words(returned: Any) -> str:
    return "\n  ".join(map(str, returned)) if isinstance(returned, list) else str(returned)


def _change(value: Any) -> str:
    """Return one change: old -> new, or a text set in."""
    if isinstance(value, dict) and set(value) == {"old", "new"}:
        old, new = (part if part not in (None, "") else "nothing" for part in (value["old"], value["new"]))
        return f"{old} -> {new}"
    lines = str(value).splitlines()
    return lines[0] if len(lines) == 1 else "\n" + textwrap.indent("\n".join(lines), "        ")


def _line(row: Row, width: int) -> str:
    """Return a row of the table: mark, id, title, and what changed or what was seen."""
    changed = len(row["changes"])
    would = any(result is None for _, _, result in row["changes"])
    tail = f"{changed} {'would change' if would else 'changed'}" if changed else ""
    # What is missing now is what would change: no need to say it twice.
    note = (
        tail
        if would
        else textwrap.shorten("; ".join(part for part in (tail, row["evidence"]) if part), 160, placeholder=" …")
    )
    return f"{row['mark']} {row['id']}  {row['title']:{width}}  {note}".rstrip()


def summary(host: str, returned: dict[str, Any]) -> str:
    """Return the run in one line of numbers."""
    states = _states(returned)
    failed = sum(state["result"] is False for state in states)
    would = sum(state["result"] is None for state in states)
    changed = sum(bool(state["changes"]) for state in states if state["result"] is True)
    done = sum(row["mark"] == DONE for row in rows(returned))
    parts = [f"{len(states)} states"]
    parts.append(f"{would} would change" if would else f"{changed} changed")
    parts += [f"{failed} failed", f"{done} of {len(mailhost_registry.TASKS)} tasks done"]
    return f"{host}: {', '.join(parts)}"


def markdown(host: str, returned: Any) -> str:
    """Return the table of tasks as Markdown, in the legend of the task table."""
    lines = [f"# {host}", ""]
    for row in rows(returned):
        lines.append(
            f"- {row['mark']} **{row['id']}** {row['title']}" + (f" — {row['evidence']}" if row["evidence"] else "")
        )
    return "\n".join(lines)
