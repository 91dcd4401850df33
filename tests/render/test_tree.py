"""The tree compiles, and every state is called as its function takes it."""

import ast
import functools
import itertools
import pathlib
import tempfile
from typing import Any

import pytest

import mailhost_registry
from compiled import GOOD, ROOT, chunks

# What Salt itself reads of a state's arguments (salt.state.STATE_REQUISITE_KEYWORDS and friends), as far as this tree
# uses it: anything else must be an argument of the function.
SALTS_OWN = {"state", "fun", "name", "__id__", "__sls__", "__env__", "order", "require", "onchanges", "watch"}


@functools.cache
def tree() -> tuple[dict[str, Any], ...]:
    with tempfile.TemporaryDirectory() as cache:
        return tuple(chunks(pathlib.Path(cache), GOOD))


def arguments_of(module: str, function: str) -> set[str]:
    """Return the names of the arguments of a state function of this tree."""
    source = ast.parse((ROOT / "_states" / f"{module}.py").read_text(encoding="utf-8"))
    (found,) = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == function]
    return {argument.arg for argument in found.args.args + found.args.kwonlyargs}


def required_of(module: str, function: str) -> set[str]:
    """Return the names of the arguments that have no default."""
    source = ast.parse((ROOT / "_states" / f"{module}.py").read_text(encoding="utf-8"))
    (found,) = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == function]
    names = [argument.arg for argument in found.args.args]
    return set(names[: len(names) - len(found.args.defaults)])


def test_every_state_is_called_as_its_function_takes_it() -> None:
    for chunk in tree():
        known = arguments_of(chunk["state"], chunk["fun"])
        given = set(chunk) - SALTS_OWN
        assert given <= known, f"{chunk['__id__']}: {chunk['fun']} takes no {given - known}"
        missing = required_of(chunk["state"], chunk["fun"]) - set(chunk)
        assert not missing, f"{chunk['__id__']}: {chunk['fun']} needs {missing}"


def test_only_states_of_this_tree_are_used_so_that_the_dry_run_is_exact() -> None:
    assert {chunk["state"] for chunk in tree()} <= {path.stem for path in (ROOT / "_states").glob("*.py")}


def test_state_ids_are_unique() -> None:
    ids = [chunk["__id__"] for chunk in tree()]
    assert len(ids) == len(set(ids))


def test_every_task_begins_after_the_tasks_it_needs() -> None:
    for task in mailhost_registry.built():
        (begin,) = [chunk for chunk in tree() if chunk["__id__"] == f"{task.id} begins"]
        needed = [requisite["sls"] for requisite in begin["require"] if "sls" in requisite]
        assert needed == [need.sls for need in mailhost_registry.built_needs(task)]


def test_every_state_stands_after_the_one_before_it_in_its_task() -> None:
    for task in mailhost_registry.built():
        mine = [chunk for chunk in tree() if chunk["__sls__"] == task.sls]
        assert mine[0]["__id__"] == f"{task.id} begins"
        assert mine[-1]["__id__"] == f"{task.id} is proven"
        for before, chunk in itertools.pairwise(mine):
            assert {"id": before["__id__"]} in chunk["require"], chunk["__id__"]


def test_tasks_run_in_the_order_of_the_registry() -> None:
    order = [chunk["task"] for chunk in sorted(tree(), key=lambda chunk: chunk["order"]) if chunk["fun"] == "begins"]
    assert order == [task.id for task in mailhost_registry.built()]


def test_every_template_exists_and_every_managed_file_has_a_quoted_mode() -> None:
    for chunk in tree():
        if chunk["state"] == "mailhost_file" and chunk["fun"] == "managed":
            assert (ROOT / "salt" / chunk["source"].removeprefix("salt://")).is_file(), chunk["source"]
            assert isinstance(chunk.get("mode", "0644"), str) and len(chunk.get("mode", "0644")) == 4, chunk["__id__"]
            assert not chunk["name"].startswith("/tmp"), chunk["name"]
        if chunk["state"] == "mailhost_file" and chunk["fun"] == "together":
            missing = [path for path in chunk["sources"].values() if not (ROOT / path.replace(":/", "", 1)).is_file()]
            assert missing == [], chunk["__id__"]


@pytest.mark.parametrize("path", sorted((ROOT / "salt").rglob("*.sls")), ids=lambda path: str(path.relative_to(ROOT)))
def test_state_files_are_tables(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!py\n")
    source = ast.parse(text)
    assert ast.get_docstring(source), "a state file begins with what is true afterwards"
    assert "__salt__" not in text, "each call is a round trip to the host"
    functions = [node for node in source.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == ["run"]
    assert ast.get_docstring(functions[0])
