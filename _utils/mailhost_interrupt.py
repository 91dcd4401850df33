"""A salt-ssh that is stopped ends with an exit code that says so; Salt's own handlers end it with 0.

Runs on the workstation only.
"""

import multiprocessing
import os
import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Of the process that asks the roster; those it starts for each host have the handlers too.
_RUN = os.getpid()


def end_honestly() -> None:
    """Let this process, and those it starts, end with 128 + the signal's number, as a shell counts."""
    for number in _SIGNALS:
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order: what was opened is closed, temporary files are removed."""
    for other in _SIGNALS:
        # Not SIG_IGN: of a signal that has come already Python would complain with a traceback.
        signal.signal(other, lambda *_: None)
    if os.getpid() == _RUN:
        name = signal.Signals(number).name
        print(f"\nstopped by {name}; the host may still finish what it was at: apply again", file=sys.stderr)
        for child in multiprocessing.active_children():
            child.terminate()
    sys.exit(128 + number)
