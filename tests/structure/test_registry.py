"""The registry, the disk and the documents say the same."""

import ast
import pathlib
import re

import pytest

import mailhost_registry
from compiled import ROOT
from generated.documents import documents
from mailhost_registry import TASKS, Task


def sls_on_disk() -> set[str]:
    salt = ROOT / "salt"
    return {".".join(path.relative_to(salt).with_suffix("").parts) for path in salt.rglob("*.sls")}


def test_every_state_file_belongs_to_one_task() -> None:
    assert sls_on_disk() - {"top", "status"} == {task.sls for task in TASKS if task.built}


def test_all_tasks_of_the_host_are_there_once() -> None:
    assert len(TASKS) == len({task.id for task in TASKS}) == 21


def test_needs_are_tasks_that_stand_before() -> None:
    seen: set[str] = set()
    for task in TASKS:
        assert set(task.needs) <= seen, task.id
        seen.add(task.id)


def test_built_tasks_have_a_check_and_checks_have_a_task() -> None:
    source = ast.parse((ROOT / "_modules/mailhost_checks.py").read_text(encoding="utf-8"))
    functions = {
        node.name for node in source.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert functions == {task.check for task in TASKS if task.built}


@pytest.mark.parametrize("task", [task for task in TASKS if task.built], ids=lambda task: task.id)
def test_a_state_file_says_its_task_and_the_automation_before_it(task: Task) -> None:
    text = (ROOT / "salt" / f"{task.sls.replace('.', '/')}.sls").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    assert first.startswith(f"{task.id} ")
    assert task.seed in first


def test_a_task_that_is_not_built_is_looked_through() -> None:
    by_id = {task.id: task for task in TASKS}
    for task in TASKS:
        for need in mailhost_registry.built_needs(task):
            assert need.built
            assert need is not by_id[task.id]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_generated_documents_are_up_to_date(path: pathlib.Path) -> None:
    assert path.read_text(encoding="utf-8") == documents()[path], "run `make docs`"


def test_no_task_number_in_any_path() -> None:
    numbered = [path for path in (ROOT / "salt").rglob("*") if re.search(r"\d[._]\d[._]\d", path.name)]
    assert numbered == []
