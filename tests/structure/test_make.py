"""What is typed to make is taken as it is meant, or refused: no run in earnest by a slip."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask make what it would do, whether or not make itself runs the tests."""
    argv = ["make", "--dry-run", "--always-make", "--old-file=setup", *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(argv, cwd=TREE, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("test=1", "test: nothing here reads it; there are CONFIRM ENV FINGERPRINT HOST NAME PYTHON TEST."),
        ("EVN=staging", "EVN: nothing here reads it; there are CONFIRM ENV FINGERPRINT HOST NAME PYTHON TEST."),
        ("TEST=0", "TEST: is 0; TEST=1 is a dry run, without TEST it is one in earnest."),
    ],
)
def test_what_would_be_passed_over_is_refused(word: str, said: str) -> None:
    done = make("apply", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_what_is_known_is_taken() -> None:
    command = ".venv/bin/salt-ssh mail-dev state.apply pillarenv=dev test=True"
    done = make("apply", "HOST=mail-dev", "ENV=dev", "TEST=1", "PYTHON=python3")
    assert (done.returncode, " ".join(done.stdout.split())) == (0, command), done
