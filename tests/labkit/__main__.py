"""The lab from the command line: `python3 -m labkit up`, with tests/ on PYTHONPATH."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

from .base import base
from .host import Host
from .lab import Lab
from .machine import ENVIRONMENT
from .tools import LabError, require_root


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says.

    Params: argv, the words after the program's name (those of this process if none are given).
    Returns: the exit status; 1 with one sentence on standard error when the lab cannot do it.
    """
    args = _parser().parse_args(argv)
    try:
        require_root()
        return int(args.do(args) or 0)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit", description="Real Debian 13 hosts on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="make a lab that stays, or boot what is off in it")
    command.add_argument("--name", default="lab", help="the lab's name (%(default)s)")
    command.add_argument("--hosts", default="mail", help="names of its hosts, with commas between (%(default)s)")
    command.add_argument("--virtual", action="store_true", help="new ones are virtual machines, with their own kernel")
    command.add_argument("--packages", default="", help="packages to have in the base image beside the usual ones")
    command.add_argument("--print-roster", action="store_true", help="print hosts.json instead of a table")
    command.set_defaults(do=_up)

    command = commands.add_parser("down", help="remove a lab with everything in it")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--name", default="lab", help="the lab's name (%(default)s)")
    which.add_argument("--all", action="store_true", help="every lab, whoever's it is")
    command.set_defaults(do=_down)

    commands.add_parser("list", help="say which labs there are").set_defaults(do=_list)
    command = commands.add_parser("base", help="build the base image only, and print where it is")
    command.add_argument("--packages", default="", help="packages to have beside the usual ones")
    command.set_defaults(do=lambda args: print(base(_words(args.packages))))

    _on_host(commands, "shell", _shell, "a root shell in a host")
    command = _on_host(commands, "run", _run, "run a command in a host as root")
    command.add_argument("argv", nargs="+", metavar="-- COMMAND", help="the command")
    _on_host(commands, "boot", lambda host, args: host.boot(), "switch a host on")
    _on_host(commands, "reboot", lambda host, args: host.reboot(port=None), "reboot a host from inside")
    _on_host(commands, "power-off", lambda host, args: host.power_off(), "shut a host down from inside")
    _on_host(commands, "power-cut", lambda host, args: host.power_cut(), "kill a host with everything in it")
    for name, text in (("snapshot", "keep a host's files"), ("restore", "put a host's files back")):
        command = _on_host(commands, name, lambda host, args: getattr(host, args.command)(args.snapshot), text)
        command.add_argument("snapshot", metavar="NAME", help="the snapshot's name")
    return parser


def _on_host(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    do: Callable[[Host, argparse.Namespace], int | None],
    text: str,
) -> argparse.ArgumentParser:
    """Add a subcommand about one host; `do` is given the host and the arguments."""
    command = commands.add_parser(name, help=text)
    command.add_argument("host", metavar="HOST", help="a host's name, or LAB/HOST when the name is in several labs")
    command.set_defaults(do=lambda args: do(_find(args.host), args))
    return command


def _up(args: argparse.Namespace) -> None:
    lab = Lab(args.name, persistent=True)
    for name in _words(args.hosts):
        host = lab.virtual(name) if args.virtual else lab.host(name, base=base(_words(args.packages)))
        # A host that was hardened meanwhile need not answer on port 22.
        host.boot(port=None)
    text = (lab.directory / "hosts.json").read_text()
    if args.print_roster:
        print(text, end="")
        return
    for name, host in lab.hosts().items():
        print(f"{name:10} {host.ipv4:14} {host.ipv6:18} {'up' if host.running() else 'off':4}")
        print(f"  ssh -i {lab.key} -o UserKnownHostsFile={lab.directory}/known_hosts root@{host.ipv4}")
    print(f"addresses, keys: {lab.directory}/hosts.json")


def _down(args: argparse.Namespace) -> None:
    if args.all:
        Lab.down_all()
    elif args.name in Lab.names():
        Lab.remove(args.name)


def _list(args: argparse.Namespace) -> None:
    for name in Lab.names():
        for host, data in json.loads((Lab.place(name) / "hosts.json").read_text()).items():
            print(f"{name}/{host} {data['ipv4']} {data['ipv6']}")


def _find(name: str) -> Host:
    """Return the host of a name, in whichever lab it is."""
    lab, _, host = name.rpartition("/")
    found = [(one, hosts[host]) for one in Lab.names() if lab in ("", one) and host in (hosts := Lab.hosts_of(one))]
    if not found:
        raise LabError(f"there is no host {name}: see `labkit list`")
    if len(found) > 1:
        raise LabError(f"the host {name} is in the labs {', '.join(one for one, _ in found)}: say LAB/{host}")
    return found[0][1]


def _shell(host: Host, args: argparse.Namespace) -> int:
    return subprocess.call([*host.enter(), "bash", "-l"], env={**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})


def _run(host: Host, args: argparse.Namespace) -> int:
    return subprocess.call([*host.enter(), *args.argv], env=ENVIRONMENT)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
