"""How exact a dry run is: what it says would change, held against what then changes; and it touches nothing itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .checkout import Checkout, Run
from .evidence import evidence
from .host import Host

Change = tuple[str, tuple[str, ...]]
COUNTS = ("states", "predicted", "real", "precision", "recall", "failed", "touched", "2nd apply", "2nd dry run")
HEADER = ("case", *COUNTS, "seconds")


@dataclass(frozen=True)
class Exactness:
    """One case: runs of the same states on one host, a dry run, an apply, an apply again, and maybe a dry run again."""

    case: str
    dry: Run
    real: Run
    again: Run
    dry_again: Run | None
    touched: list[str]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs in their order."""
        return (self.dry, self.real, self.again, *([self.dry_again] if self.dry_again else []))

    @property
    def predicted(self) -> set[Change]:
        """What the dry run said: state ids, each with the names of its changes."""
        return _changes(self.dry)

    @property
    def made(self) -> set[Change]:
        """What the apply changed, in the same form."""
        return _changes(self.real)

    @property
    def precision(self) -> float:
        """The share of what was predicted that happened."""
        return _share(self.predicted & self.made, self.predicted)

    @property
    def recall(self) -> float:
        """The share of what happened that was predicted."""
        return _share(self.predicted & self.made, self.made)

    def wrong(self) -> list[str]:
        """Return in words everything that is not as it must be."""
        found = [f"the dry run touched {what}" for what in self.touched]
        names = ("dry run", "apply", "2nd apply", "2nd dry run")
        for name, run in zip(names, self.runs, strict=False):
            if not run:
                found.append(f"{name}: {run.result}")
            elif run.returncode != 0:
                found.append(f"{name}: exit code {run.returncode}")
            found += [f"{name}: {state_id} failed: {comment}" for state_id, comment in run.failed.items()]
        found += [f"predicted and not made: {change}" for change in sorted(self.predicted - self.made)]
        found += [f"made and not predicted: {change}" for change in sorted(self.made - self.predicted)]
        found += [
            f"{state_id}: predicted {self.dry.changed[state_id]}, made {changes}"
            for state_id, changes in self.real.changed.items()
            if not _foretold(self.dry.changed.get(state_id, changes), changes)
        ]
        found += [f"2nd apply: changed {change}" for change in sorted(_changes(self.again))]
        if self.dry_again:
            found += [f"2nd dry run: would change {change}" for change in sorted(_changes(self.dry_again))]
        return found

    def row(self) -> tuple[str, ...]:
        """Return the case as a row of the table, in the order of HEADER."""
        counts = (len(self.real), len(self.predicted), len(self.made))
        shares = (f"{self.precision:.2f}", f"{self.recall:.2f}")
        failed = sum(len(run.failed) for run in self.runs)
        after = (failed, len(self.touched), len(self.again.changed))
        last = "-" if self.dry_again is None else str(len(self.dry_again.changed))
        return (self.case, *map(str, counts), *shares, *map(str, after), last, self.seconds)

    @property
    def seconds(self) -> str:
        """How long each of the runs took."""
        return "+".join(f"{run.seconds:.0f}" for run in self.runs)


def measure(case: str, host: Host, checkout: Checkout, *sls: str) -> Exactness:
    """Dry-run a host as it is now, apply, apply again; with all states, dry-run again too.

    Where only some states run, a second dry run would say what the first has said on such a host already.

    Params: case, a name for the table; host, running; checkout to run from, its roster naming the host ``mail``; sls,
    the state files, all of them without.
    """
    _guarded(host)
    before = evidence(host)
    dry = checkout.apply(*sls, test=True)
    touched = before.differences(evidence(host))
    real = checkout.apply(*sls)
    again = checkout.apply(*sls)
    return Exactness(case, dry, real, again, None if sls else checkout.apply(test=True), touched)


def table(header: Sequence[str], cases: Iterable[Sequence[str]]) -> str:
    """Return cases as a Markdown table."""
    rows = [header, *cases]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _guarded(host: Host, seconds: float = 20) -> None:
    """Wait until fail2ban has put its sets into the kernel: it still does when its unit has started long ago.

    They never come when a test took them away, so this is no demand. Params: host; seconds to wait at most.
    """
    look = "systemctl -q is-active fail2ban && fail2ban-client status | grep -o '[0-9]*$' && nft list sets"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        jails, _, sets = host.run(["sh", "-c", look], check=False).stdout.partition("\n")
        if sets.count("set addr") == 2 * int(jails or 0):
            return
        time.sleep(0.2)


def _changes(run: Run) -> set[Change]:
    return {(state_id, tuple(sorted(changes))) for state_id, changes in run.changed.items()}


def _foretold(predicted: object, made: object) -> bool:
    """Return whether values are the same, or texts that begin alike: what is made on the host is only known then."""
    if isinstance(predicted, dict) and isinstance(made, dict):
        return all(_foretold(predicted[name], made[name]) for name in predicted.keys() & made.keys())
    if isinstance(predicted, str) and isinstance(made, str):
        return made.startswith(predicted)
    return predicted == made


def _share(part: set[Change], whole: set[Change]) -> float:
    return len(part) / len(whole) if whole else 1.0
