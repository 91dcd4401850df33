"""Every file of code can be read by Python: Salt leaves out a roster that cannot, and ends with 0 having done nothing."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted([*ROOT.glob("_*/*.py"), *ROOT.glob("salt/**/*.sls"), *ROOT.glob("pillar/top.sls")])


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_is_python(path: Path) -> None:
    ast.parse(path.read_text(), str(path))
