"""The kernel's rules as iptables-save prints them, compared with the files that ufw loads. Pure."""

import ipaddress
import re
import shlex
import sys

from mailhost_chains import CONTAINERS, TUNNEL
from mailhost_chains import hooks as early

# What makes two rules the same here. The kernel prints the rest of a rule otherwise than it was written.
_COMPARED = {
    "-i",
    "-o",
    "-p",
    "-s",
    "-d",
    "--sport",
    "--sports",
    "--dport",
    "--dports",
    "--ctstate",
    "--ctorigdst",
    "--ctorigdstport",
    "--hitcount",
    "-j",
}


def chain(text: str, name: str) -> list[str]:
    """Return the rules of a chain, each in one spelling, from a rules file or from iptables-save."""
    prefix = f"-A {name} "
    return [_spelling(line.removeprefix(prefix)) for line in text.splitlines() if line.startswith(prefix)]


def policy(text: str, name: str) -> str:
    """Return the policy of a built-in chain, "" when the table is not there."""
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f":{name} ")]
    return found[0] if found else ""


def loaded(family: int, user_rules: str, after_rules: str, policies: tuple[str, str], kernel: str) -> bool:
    """Whether the kernel filters by ufw's files.

    family
        4 or 6.
    user_rules, after_rules
        Texts of user.rules and after.rules, or of user6.rules and after6.rules.
    policies
        What happens to the rest of what comes in and of what is routed: DROP, REJECT or ACCEPT.
    kernel
        What iptables-save or ip6tables-save printed of table filter.
    """
    ufw = _ufw(family)
    return (
        [policy(kernel, "INPUT"), policy(kernel, "FORWARD")] == [word.replace("REJECT", "DROP") for word in policies]
        and all(chain(user_rules, name) == chain(kernel, name) for name in _users(family))
        and f"-j {ufw}-user-input" in chain(kernel, f"{ufw}-before-input")
        and not hooks(family, kernel)
        and guarded(after_rules, kernel)
        and chain(after_rules, TUNNEL) == chain(kernel, TUNNEL)
        and all(_spelling(rule) in chain(kernel, f"{ufw}-before-input") for rule in early(family, after_rules))
    )


def users_loaded(family: int, user_rules: str, kernel: str) -> str:
    """Return the kernel's rules with ufw's chains of users' rules as ufw would load them from their file.

    Params: family; user_rules, the text of user.rules or user6.rules; kernel, as iptables-save printed it. Chains that
    are not there stay away.
    """
    if not started(family, kernel):
        return kernel
    begins = tuple(f"-A {name} " for name in _users(family))
    lines = [line for line in kernel.splitlines() if not line.startswith(begins)]
    rules = [line for line in user_rules.splitlines() if line.startswith(begins)]
    return "\n".join([*lines, *rules, ""])


def hooks(family: int, kernel: str) -> str:
    """Return what iptables-restore must read to let the kernel's own chains go through ufw's again, "" for nothing.

    ufw hooks its chains in when it makes them and never again: a reload does not help after somebody's ``iptables -F``.
    Neither does Docker hook DOCKER-USER in when it starts and finds containers running.
    """
    ufw = _ufw(family)
    if not policy(kernel, f"{ufw}-before-input"):
        return ""  # ufw makes its chains, and hooks them in, at the next start
    lines = []
    for name in ("INPUT", "FORWARD", "OUTPUT"):
        # ufw's own order (ufw-init-functions, ufw_start).
        ways = ("before-logging", "before", "after", "after-logging", "reject", "track")
        wanted = [f"-j {ufw}-{way}-{name.lower()}" for way in ways]
        there = [rule for rule in chain(kernel, name) if rule.startswith(f"-j {ufw}-")]
        if there != wanted:
            lines += [f"-D {name} {rule}" for rule in there] + [f"-A {name} {rule}" for rule in wanted]
    return _restorable(lines + _containers_first(kernel))


def containers_first(kernel: str) -> str:
    """Return what iptables-restore must read to let DOCKER-USER decide first on what Docker forwards, "" for none."""
    return _restorable(_containers_first(kernel))


def guarded(after_rules: str, kernel: str) -> bool:
    """Whether chain DOCKER-USER is as after.rules has it.

    Docker adds a RETURN at the end; others, fail2ban for one, may add at the beginning what keeps more out.
    """
    wanted, there = chain(after_rules, CONTAINERS), chain(kernel, CONTAINERS)
    if there[-1:] == ["-j RETURN"]:
        there.pop()
    before = there[: len(there) - len(wanted)]
    opens = any(rule.endswith(("-j ACCEPT", "-j RETURN")) for rule in before)
    return there[len(before) :] == wanted and not opens


def bypassed(kernel: str) -> bool:
    """Whether Docker is there, and something else than DOCKER-USER decides first on what it forwards.

    Docker's isolation of its networks from each other, which may stand before, lets nothing in: it drops or returns.
    """
    if not any(line.startswith(":DOCKER ") for line in kernel.splitlines()):
        return False
    forward = chain(kernel, "FORWARD")
    if f"-j {CONTAINERS}" not in forward:
        return True
    before = forward[: forward.index(f"-j {CONTAINERS}")]
    return any(rule.endswith("-j ACCEPT") or re.search(r"-j DOCKER(?!-ISOLATION-)", rule) for rule in before)


def hooked(kernel: str, nat: str) -> bool:
    """Whether the rules are there by which Docker forwards and redirects what is published, over IPv4.

    It makes them when it starts and never again: somebody's ``iptables -F`` takes them away. Their names are those of
    Docker before 28 and since.

    Params: kernel, nat, what iptables-save printed of tables filter and nat.
    """
    own = ("-j DOCKER-ISOLATION-STAGE-1", "-j DOCKER-FORWARD")
    return any(rule in own for rule in chain(kernel, "FORWARD")) and "-j DOCKER" in chain(nat, "PREROUTING")


def started(family: int, kernel: str) -> bool:
    """Whether ufw has its chains of users' rules: it takes them away when it is stopped, and leaves the others."""
    return bool(policy(kernel, _users(family)[0]))


def foreign(kernel: str) -> list[str]:
    """Return the rules of INPUT that let something in from outside besides ufw's chains."""
    return [rule for rule in chain(kernel, "INPUT") if rule.endswith("-j ACCEPT") and not rule.startswith("-i lo ")]


def _ufw(family: int) -> str:
    """Return how the names of ufw's chains begin."""
    return "ufw" if family == 4 else "ufw6"


def _containers_first(kernel: str) -> list[str]:
    """Return the lines for iptables-restore that put DOCKER-USER first, none where it is."""
    jump = f"FORWARD -j {CONTAINERS}"
    if not bypassed(kernel):
        return []
    return [f"-D {jump}"] * chain(kernel, "FORWARD").count(f"-j {CONTAINERS}") + [f"-I {jump}"]


def _restorable(lines: list[str]) -> str:
    """Return lines as iptables-restore reads them, "" for none."""
    return "\n".join(["*filter", *lines, "COMMIT", ""]) if lines else ""


def _users(family: int) -> list[str]:
    """Return ufw's chains of users' rules."""
    return [f"{_ufw(family)}-user-{way}" for way in ("input", "output", "forward")]


def _spelling(rule: str) -> str:
    """Return a rule's compared options in a fixed order, single addresses without their prefix length."""
    words = shlex.split(rule)
    options = []
    for index, word in enumerate(words[:-1]):
        if word in _COMPARED:
            denied = "! " if index and words[index - 1] == "!" else ""
            value = words[index + 1].removesuffix("/32").removesuffix("/128")
            options.append(f"{denied}{word} {value}")
    return " ".join(sorted(options, key=lambda option: (option.startswith("-j"), option)))


def socket_address(word: str) -> tuple[str, int]:
    """Return address and port from their hexadecimal spelling in /proc/net/tcp and /proc/net/tcp6.

    The address is in words of 32 bits, each in the machine's own byte order (kernel, net/ipv4/tcp_ipv4.c).
    """
    address, _, port = word.partition(":")
    words = [int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)
