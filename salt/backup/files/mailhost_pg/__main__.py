"""mailhost-pg: its commands."""

from __future__ import annotations

import argparse
import os
import sys

from . import backup, check, config, drill, export, hook, receiver, restore, verify

# Each has options(parser), and main(config, asked), which returns the exit code.
COMMANDS = {
    "backup": (backup, "make a base backup in every repository"),
    "restore": (restore, "put the database back to a moment, beside the old data, and swap them"),
    "export": (export, "write a table or one domain's rows of a moment into a file"),
    "drill": (drill, "restore the newest backup where nobody is disturbed, and file the proof"),
    "check": (check, "say whether backups and archiving are in order (0 yes, 1 warning, 2 no)"),
    "verify": (verify, "read every file of the repositories and compare its checksum"),
    "tail": (receiver, "take WAL as the server writes it, until it is ended: the unit mailhost-pg-tail does this"),
    "failed": (hook, "tell the operator's hook that a unit failed"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command: 0 done, 1 failed, 2 refused or misspelt; check has codes of its own."""
    parser = argparse.ArgumentParser(prog="mailhost-pg", description="Backups of the mail server's database.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (module, title) in COMMANDS.items():
        module.options(commands.add_parser(name, help=title, description=f"{title[0].upper()}{title[1:]}."))
    asked = parser.parse_args(argv)
    # What is made is as readable in the operator's hardened shell (control A07) as in a unit of systemd.
    os.umask(0o022)
    try:
        if os.geteuid() != 0:
            raise config.Refused("only root can do this")
        return int(COMMANDS[asked.command][0].main(config.load(), asked))
    except config.Refused as refused:
        print(f"mailhost-pg {asked.command}: {refused}", file=sys.stderr)
        return 2
    except (config.Failed, OSError) as failed:  # a full disk says its own sentence
        print(f"mailhost-pg {asked.command}: {failed}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
