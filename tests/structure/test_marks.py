"""What `make test` leaves out is a choice of cases: no test is left out by a slip."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).parents[1] / "lab"


def test_the_cases_that_are_named_are_there(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}"]
    done = subprocess.run([*argv, LAB], capture_output=True, text=True, check=True, cwd=LAB.parents[1])
    there = {line.partition("::")[2] for line in done.stdout.splitlines()}
    named = {
        f"{function.name}[{ast.literal_eval(case)}]"
        for path in LAB.glob("test_*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for mark in function.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.shown_by"
        for case in mark.args
    }
    assert len(named) > 10
    assert named <= there, named - there
