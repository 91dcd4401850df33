"""A salt-ssh that is stopped says so in one line, also when it is told twice."""

from __future__ import annotations

import subprocess
import sys

from compiled import ROOT

TWICE = """
import os, signal, mailhost_interrupt
mailhost_interrupt.end_honestly()
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
for number in both:
    os.kill(os.getpid(), number)
signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
"""


def test_a_second_signal_that_has_come_already_is_passed_over() -> None:
    argv = [sys.executable, "-c", TWICE]
    done = subprocess.run(argv, cwd=ROOT / "_utils", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 128 + 2
    assert done.stderr == "\nstopped by SIGINT; the host may still finish what it was at: apply again\n"
