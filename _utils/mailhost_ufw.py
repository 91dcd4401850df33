"""One rule of ufw: as its rules file keeps it, as its command line takes it, as people read it. Pure.

ufw keeps each rule as a line ``### tuple ### allow tcp 25 0.0.0.0/0 any 0.0.0.0/0 in comment=…`` before the iptables
rules made of it (its source, backend_iptables.py, _write_rules and _read_rules).
"""

import dataclasses
import re
from collections.abc import Iterable

SSH_COMMENT = "SSH, until it is on the VPN only"

_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule; addresses are "any" for every address of both families, ports "any" for all."""

    action: str
    protocol: str = "any"
    dport: str = "any"
    dst: str = "any"
    sport: str = "any"
    src: str = "any"
    dapp: str = ""
    sapp: str = ""
    direction: str = "in"
    in_interface: str = ""
    out_interface: str = ""
    log: str = ""
    route: bool = False
    comment: str = ""

    @property
    def place(self) -> tuple[object, ...]:
        """What ufw takes for the same rule: all but action, logging and comment, which it then replaces."""
        return dataclasses.astuple(dataclasses.replace(self, action="", log="", comment=""))

    def command(self) -> list[str]:
        """Return ufw's arguments that add the rule, or give the one in its place this action and comment."""
        words = ["route"] if self.route else []
        words.append(self.action)
        if self.in_interface:
            words += ["in", "on", self.in_interface]
        if self.out_interface:
            words += ["out", "on", self.out_interface]
        if not self.route and not self.in_interface and not self.out_interface:
            words.append(self.direction)
        words += [self.log] if self.log else []
        # The protocol of an application is in its profile.
        words += [] if self.dapp or self.sapp or self.protocol == "any" else ["proto", self.protocol]
        words += ["from", self.src, *_port(self.sport, self.sapp), "to", self.dst, *_port(self.dport, self.dapp)]
        return [*words, *(["comment", self.comment] if self.comment else [])]

    def removal(self) -> list[str]:
        """Return ufw's arguments that remove the rule; asked no question, and without the comment, as ufw wants it."""
        words = dataclasses.replace(self, comment="").command()
        return ["--force", "route", "delete", *words[1:]] if self.route else ["--force", "delete", *words]

    def line(self) -> str:
        """Return the line of ufw's rules file that stands for a rule without addresses, as IPv4 has it."""
        way = f"in_{self.in_interface}" if self.in_interface else "in"
        app = f"{self.dapp.replace(' ', '%20')} - " if self.dapp else ""
        words = f"{self.action} {self.protocol} {self.dport} {_ANYWHERE[0]} {self.sport} {_ANYWHERE[0]} {app}{way}"
        return f"### tuple ### {words} comment={self.comment.encode().hex()}\n"

    def opens_everywhere(self, ports: set[str]) -> bool:
        """Whether the rule lets TCP in at one of these ports from anywhere, by any interface, and does no more."""
        bare = dataclasses.replace(self, action="", log="", comment="", protocol="any", dport="any", dapp="")
        return (
            self.action in ("allow", "limit")
            and self.protocol in ("tcp", "any")
            and self.dport in ports
            and bare == Rule(action="")
        )

    def takes(self, protocol: str, port: int, interface: str) -> bool:
        """Whether the rule decides on a packet from anywhere to this port; interface "" is the public one."""
        return (
            not self.route
            and self.direction == "in"
            and not self.out_interface
            and self.in_interface in ("", interface)
            and self.protocol in ("any", protocol)
            and (self.src, self.dst, self.sport) == ("any", "any", "any")
            and (self.dport == "any" or any(_within(port, part) for part in self.dport.split(",")))
        )

    def __str__(self) -> str:
        """Return the rule for people: short where it is a plain one, else in ufw's own words."""
        port = f"{self.dport}/{self.protocol}" if self.protocol != "any" else self.dport
        if self.dport != "any" and dataclasses.replace(
            self, action="", protocol="any", dport="any", in_interface="", comment=""
        ) == Rule(action=""):
            where = f" on {self.in_interface}" if self.in_interface else ""
            return f"{self.action} {port}{where}" + (f" ({self.comment})" if self.comment else "")
        return " ".join(self.command())


def parse(text: str) -> list[Rule]:
    """Return the rules of user.rules or user6.rules, in their order; lines that ufw itself would skip are skipped."""
    found = []
    for line in re.findall(r"^### tuple ###\s+(.+)$", text, re.MULTILINE):
        tuple_, _, comment = line.partition(" comment=")
        words = tuple_.split()
        if not 6 <= len(words) <= 9:
            continue
        action, _, log = words[0].removeprefix("route:").partition("_")
        # Of 6 and 8 words are the lines of old versions, without direction and interfaces.
        ways = words.pop() if len(words) in (7, 9) else "in"
        interfaces = dict(way.partition("_")[::2] for way in ways.split("!"))
        apps = [app.replace("%20", " ") if app != "-" else "" for app in words[6:8]] or ["", ""]
        found.append(
            Rule(
                action=action,
                protocol=words[1],
                dport=words[2],
                dst=_address(words[3]),
                sport=words[4],
                src=_address(words[5]),
                dapp=apps[0],
                sapp=apps[1],
                direction="in" if "in" in interfaces else "out",
                in_interface=interfaces.get("in", ""),
                out_interface=interfaces.get("out", ""),
                log=log,
                route=words[0].startswith("route:"),
                comment=bytes.fromhex(comment.strip()).decode(errors="replace"),
            )
        )
    return found


def with_rules(text: str, lines: Iterable[str]) -> str:
    """Return a rules file as ufw would read it with these rules added: each in place of the same one that is there.

    Params: text, the file's; lines, as ``Rule.line`` returns them.
    """
    added = {rule.place: line for line in lines for rule in parse(line)}
    there = text.splitlines(keepends=True)
    after = [next((added.pop(rule.place) for rule in parse(line) if rule.place in added), line) for line in there]
    return "".join([*after, *added.values()])


def admits(text: str, protocol: str, port: int, interface: str) -> bool:
    """Whether the rules of a file let in what comes from anywhere to a port; interface "" is the public one."""
    first = next((rule for rule in parse(text) if rule.takes(protocol, port, interface)), None)
    return first is not None and first.action in ("allow", "limit")


def _address(word: str) -> str:
    return "any" if word in _ANYWHERE else word


def _port(port: str, app: str) -> list[str]:
    if app:
        return ["app", app]
    return [] if port == "any" else ["port", port]


def _within(port: int, part: str) -> bool:
    low, _, high = part.partition(":")
    return int(low) <= port <= int(high or low)
