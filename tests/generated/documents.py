"""What the generated documents must say."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import mailhost_hardening
import mailhost_pillar
import mailhost_registry

ROOT = pathlib.Path(__file__).parents[2]


def documents() -> dict[pathlib.Path, str]:
    """Return the text of each generated document by its path."""
    return {
        ROOT / "docs/tasks.md": tasks(),
        ROOT / "pillar.example": pillar_example(),
        ROOT / "docs/hardening.md": hardening(),
    }


def tasks() -> str:
    """Return the task table as Markdown."""
    lines = [
        "# The tasks",
        "",
        "Made from `_utils/mailhost_registry.py` by `make docs`. What holds now: `salt-ssh mail state.apply status`.",
        "The last column is the step of the automation that this tree replaces; that is not in here.",
        "",
        "| task | title | needs | state file | proof | did it before |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for task in mailhost_registry.TASKS:
        file = f"`salt/{task.sls.replace('.', '/')}.sls`" if task.built else "not built yet"
        proof = f"`mailhost_checks.{task.check}`" if task.check else ""
        seed = f"`{task.seed}`" if task.seed else ""
        lines.append(f"| {task.id} | {task.title} | {', '.join(task.needs) or '–'} | {file} | {proof} | {seed} |")
    return "\n".join(lines) + "\n"


def hardening() -> str:
    """Return the hardening controls as Markdown."""
    lines = [
        "# The hardening controls",
        "",
        "Made from `_utils/mailhost_hardening.py` by `make docs`. Which hold now: task 1.3.1 of the tracker. A control",
        "that does not fit a host is switched off in its pillar, with the reason, which the tracker then shows:",
        "",
        "```yaml",
        "hardening:",
        "  profile: strict  # priority 1 and 2; basic: 1",
        "  disabled: {A07: three people share files here}",
        "```",
        "",
        "A control that is switched off later takes its own files away and is no longer looked after. What it set in",
        "files of Debian's own, in the running kernel and by removing packages stays as it is.",
        "",
        "| id | priority | what holds | source | what it costs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for control in mailhost_hardening.CONTROLS:
        holds = f"{control.means} (off by itself: {control.off})" if control.off else control.means
        lines.append(f"| {control.id} | {control.priority} | {holds} | {control.source} | {control.breaks or '–'} |")
    return "\n".join(lines) + "\n"


def pillar_example() -> str:
    """Return an example pillar with every key, its meaning and its default."""
    head = [
        "# Every key of the pillar: what it means and its default. Made by `make docs` from _utils/mailhost_pillar.py.",
        "# Put what differs into pillar/<environment>/init.sls; what is secret into encrypted.sls beside it",
        "# (docs/operations/secrets.md). A key that is not here is refused.",
        "",
    ]
    return "\n".join([*head, *_keys(mailhost_pillar.Pillar, "")]) + "\n"


def _keys(kind: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a section, each key after its comment."""
    for field in dataclasses.fields(kind):
        if "section" in field.metadata:
            yield f"{indent}# {field.metadata['doc']}"
            yield f"{indent}{field.name}:"
            yield from _keys(field.metadata["section"], f"{indent}  ")
            continue
        if "sections" in field.metadata:
            yield f"{indent}# {field.metadata['doc']}"
            yield f"{indent}{field.name}:"
            yield f"{indent}  {field.metadata['example']}:"
            yield from _keys(field.metadata["sections"], f"{indent}    ")
            continue
        secret = " (secret)" if field.metadata["secret"] else ""
        yield f"{indent}# {field.metadata['doc']}{secret}"
        yield f"{indent}{field.name}: {_value(field)}".replace(": \n", ":\n")


def _value(field: Any) -> str:
    """Return a key's default as YAML, or an example where it must be given."""
    if field.default is dataclasses.MISSING:
        return field.metadata["example"]  # type: ignore[no-any-return]
    if field.default is None:
        return "null"
    if field.default == ():
        return "[]"
    if isinstance(field.default, tuple):
        rows = (", ".join(f"{name}: {_scalar(value)}" for name, value in row.items()) for row in field.default)
        return "".join(f"\n    - {{{row}}}" for row in rows)
    return _scalar(field.default)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d", value):
        return f'"{value}"'  # YAML 1.1 reads 14:00 as a number, 840
    return str(value).lower() if isinstance(value, bool) else str(value)
