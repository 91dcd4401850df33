"""`make demo`: a lab host like a fresh VPS, the tree applied to it, and the tracker, as an operator would see it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from .checkout import PROJECT, Checkout
from .lab import Lab

DIRECTORY = PROJECT / ".demo"
README = PROJECT / "README.md"
# What the demo types, in this order. The words shown stand in README.md between markers of these names.
STEPS = {
    "dry-run-part": ("mail", "state.apply", "access.admin", "test=True"),
    "dry-run": ("mail", "state.apply", "test=True"),
    "apply": ("mail", "state.apply"),
    "again": ("mail", "state.apply"),
}
# Of which the README shows the end only, from the table or from the last line on.
TABLE, LAST = ("apply",), ("dry-run", "again")


def played(checkout: Checkout) -> Iterator[tuple[str, int, str]]:
    """Yield each step's name, exit code and what a terminal would show of it, as it is done."""
    for name, words in STEPS.items():
        done = subprocess.run(
            checkout.command(*words),
            cwd=checkout.directory,
            env=checkout.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        yield name, done.returncode, f"$ salt-ssh {' '.join(words)}\n{done.stdout}"


def steady(name: str, text: str) -> str:
    """Return a step's transcript as the README shows it.

    Without what differs from host to host (addresses, fingerprints, times), without the lines that say how far the run
    is, and cut where the whole would be long.
    """
    if name in TABLE:
        command, _, rest = text.partition("\n")
        text = f"{command}\n…\n{rest[rest.index('mail:' + chr(10)) :]}"
    if name in LAST:
        text = "\n".join([text.splitlines()[0], "…", text.rstrip().splitlines()[-1], ""])
    for pattern, word in (
        (r"^mail: \d+/\d+ .*\n", ""),
        (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:…"),
        (r"\b(?!10\.100\.|0\.0\.0\.0|127\.)\d+\.\d+\.\d+\.\d+\b", "203.0.113.5"),
        (r"[A-Za-z0-9+/]{43}=", "…="),
        # What a machine and its kernel have differs, and so does what Debian has brought out since.
        (r"\d+ CPUs?, [\d.]+ GB of memory, \d+ GB of disk", "… CPUs, … GB of memory, … GB of disk"),
        (r"Docker \d\S+ and Compose \d\S+;", "Docker … and Compose …;"),
        (r"PostgreSQL 17\.\d+", "PostgreSQL 17.…"),
        (r"image [0-9a-f]{12}, .*", "image …"),
        (r"/ \(/dev/\S+\) is btrfs", "/ (…) is btrfs"),
        (r"\d+ controls hold", "… controls hold"),
        (r"not applicable here: .*", "…"),
        (r"fd00:213:\d+::\w+", "2001:db8::5"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+", "2026-11-22 12:00:00 UTC"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2026-11-22 12:00 UTC"),
        (r"lab-[\w-]+", "ada@example.org"),
        (r"[ \t]+$", ""),
    ):
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text


def _block(readme: str, name: str) -> re.Match[str]:
    found = re.search(rf"(?<=<!-- {name} -->\n```console\n)(.*?)(?=```)", readme, re.DOTALL)
    assert found, f"README.md has no transcript <!-- {name} -->"
    return found


def shown(readme: str, name: str) -> str:
    """Return the transcript that the README shows for a step."""
    return _block(readme, name)[0]


def showing(readme: str, name: str, transcript: str) -> str:
    """Return the README with another transcript for a step."""
    block = _block(readme, name)
    return readme[: block.start()] + transcript + readme[block.end() :]


def main() -> int:
    """Bring the host up, play the steps, say how to go on; with --readme also write them into README.md."""
    with_readme = "--readme" in sys.argv[1:]
    lab = Lab("demo", persistent=True)
    if DIRECTORY.exists():
        lab.down()
        shutil.rmtree(DIRECTORY)
        lab = Lab("demo", persistent=True)
    host = lab.host("mail")
    if not host.running():
        host.boot()
    checkout = Checkout(DIRECTORY, host)
    try:
        for name, code, text in played(checkout):
            print(text, flush=True)
            if code:
                return code
            if with_readme:
                readme = README.read_text(encoding="utf-8")
                README.write_text(showing(readme, name, steady(name, text)), encoding="utf-8")
    finally:
        checkout.disconnect()
    print(f"The host stays up. Go on with:  cd {DIRECTORY} && . ../.venv/bin/activate && salt-ssh mail state.apply")
    print("Remove it with:  make demo-down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
