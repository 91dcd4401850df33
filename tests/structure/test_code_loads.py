"""Python can read every file of code: Salt leaves out a roster that it cannot, and ends with 0, nothing done."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted([*ROOT.glob("_*/*.py"), *ROOT.glob("salt/**/*.sls"), *ROOT.glob("pillar/top.sls")])


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_is_python(path: Path) -> None:
    ast.parse(path.read_text(), str(path))
