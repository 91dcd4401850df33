"""Every module of the tree keeps the house's rules."""

import ast
import pathlib

import pytest

from compiled import ROOT

MODULES = sorted((ROOT / "_modules").glob("*.py"))
STATES = sorted((ROOT / "_states").glob("*.py"))
UTILS = sorted((ROOT / "_utils").glob("*.py"))


def public(path: pathlib.Path) -> list[ast.FunctionDef]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def ids(path: pathlib.Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", MODULES + STATES, ids=ids)
def test_all_is_the_public_functions(path: pathlib.Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    (names,) = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert sorted(names) == sorted(function.name for function in public(path))


@pytest.mark.parametrize("path", MODULES + STATES + UTILS, ids=ids)
def test_public_functions_are_documented(path: pathlib.Path) -> None:
    for function in public(path):
        assert ast.get_docstring(function), f"{function.name} has no docstring"


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "mailhost_checks"], ids=ids)
def test_execution_modules_show_how_they_are_called(path: pathlib.Path) -> None:
    for function in public(path):
        example = f"{path.stem}.{function.name}"
        docstring = ast.get_docstring(function) or ""
        assert "CLI Example" in docstring, f"{function.name} has no CLI example"
        assert "salt-ssh mail " in docstring, f"{example} is not shown"


@pytest.mark.parametrize("path", MODULES + STATES + UTILS, ids=ids)
def test_no_module_swallows_what_it_does_not_know(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            raises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            assert not broad or raises, f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_no_module_uses_a_shell(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "shell=True" not in text
    assert "os.system" not in text
    assert '"cmd.' not in text


@pytest.mark.parametrize("path", STATES, ids=ids)
def test_states_report_failures_in_words(path: pathlib.Path) -> None:
    for function in public(path):
        decorators = [ast.unparse(node) for node in function.decorator_list]
        assert "explained" in decorators, f"{function.name} is not @explained"
