"""How people log in. Every change is commit-confirmed: it goes back unless a new login by the changed way comes in."""

import time

from salt.exceptions import CommandExecutionError

import mailhost_file
import mailhost_forecast
import mailhost_sshd
import mailhost_ufw
from mailhost_result import explained, outcome

__all__ = ["on_addresses", "on_port", "settings"]

# WireGuard shakes hands anew every 120 s while there is traffic, and gives a session up after 180 s (its paper, 6.1).
HANDSHAKE_SECONDS = 180
WAIT_SECONDS = 60


@explained
def settings(name, declared, admin):
    """Let a drop-in of sshd hold these settings, and sshd apply them.

    name
        The drop-in's path; its name must sort before others', since the first value wins.
    declared
        Pairs of keyword and value.
    admin
        Who must be able to log in afterwards, and does so to confirm the change.
    """
    text = mailhost_sshd.drop_in(declared)
    changes = _plan(name, text, admin)

    def change():
        _put({name: text})
        wrong = mailhost_sshd.differing(__salt__["mailhost_sshd.effective"](admin), [tuple(pair) for pair in declared])
        if wrong:
            raise CommandExecutionError(f"{name}: not in effect: {'; '.join(wrong)}")

    def act():
        way = __salt__["mailhost_sshd.way_in"]()
        _commit(f"sshd: {name}", change, admin, [way["address"]], way["port"])

    return outcome((__opts__, __context__), name, changes, act, "is in effect")


@explained
def on_port(name, port, admin):
    """Let sshd answer on this port and no other.

    It answers on the new port beside the old one first; the old one is closed only after a login by the new one.

    name
        The path of the drop-in that says so. Ports add up over all files of sshd, so other files' are made comments.
    port
        The port.
    admin
        Who logs in by it to confirm.
    """
    text = mailhost_sshd.drop_in([["Port", str(port)]])
    others = _others(name, "Port")
    changes = {**_plan(name, text, admin), **_silenced(others, "Port")}
    if changes and __opts__["test"]:
        mailhost_forecast.note(__context__, "listening", "sshd", [["0.0.0.0", port], ["::", port]])
        __salt__["mailhost_firewall.let_in"](port, "tcp", mailhost_ufw.SSH_COMMENT)

    def act():
        __salt__["mailhost_firewall.let_in"](port, "tcp", mailhost_ufw.SSH_COMMENT)
        way = __salt__["mailhost_sshd.way_in"]()
        if way["port"] != port:
            both = mailhost_sshd.drop_in([["Port", str(way["port"])], ["Port", str(port)]])
            _commit(f"sshd on port {port} too", lambda: _put({name: both}), admin, [way["address"]], port)
        _commit(f"sshd on port {port} only", lambda: _put({name: text, **others}), admin, [way["address"]], port)

    return outcome((__opts__, __context__), name, changes, act, f"answers on port {port}")


@explained
def on_addresses(name, addresses, port, admin, interface, peers):
    """Let sshd listen on these addresses and no other.

    A login by them is asked for first; they are the only ones only after that, and after another login.

    name
        The path of the drop-in that says so. Addresses add up over all files of sshd, so other files' are made
        comments.
    addresses, port
        The host's addresses on the VPN, and the port that sshd has.
    admin
        Who logs in by them to confirm.
    interface, peers
        The WireGuard interface and the names of its peers: without a handshake on it nobody could come in, and nothing
        is changed; without a peer there never will be one, so sshd stays where it is.
    """
    if not peers:
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": "stays public: no peer is declared in vpn.peers",
        }
    text = mailhost_sshd.drop_in([["ListenAddress", address] for address in addresses])
    others = _others(name, "ListenAddress")
    changes = {**_plan(name, text, admin), **_silenced(others, "ListenAddress")}
    if changes and __opts__["test"]:
        mailhost_forecast.note(__context__, "listening", "sshd", [[address, port] for address in addresses])
        __salt__["mailhost_firewall.let_in"](port, "tcp", "SSH", interface)

    def act():
        __salt__["mailhost_firewall.let_in"](port, "tcp", "SSH", interface)
        _wait_for_handshake(interface)
        _commit("a login over the VPN, before sshd is on it alone", lambda: None, admin, addresses, port)
        _commit("sshd on the VPN only", lambda: _put({name: text, **others}), admin, addresses, port)

    return outcome((__opts__, __context__), name, changes, act, f"listens on {', '.join(addresses)} only")


def _plan(name, text, admin):
    """Return what differs in a drop-in; refuse one by which the admin could not log in."""
    wanted = {"text": text, "user": "root", "group": "root", "mode": "0600"}
    changes = mailhost_file.plan(name, wanted, __salt__["mailhost_file.look"](name), secret=False)
    # An admin whom this dry run would make cannot be tried yet; the real run does.
    if changes and admin not in mailhost_forecast.applied(__context__, "users", {}):
        __salt__["mailhost_sshd.try_out"](text, admin)
    return changes


def _others(name, keyword):
    """Return the other files of sshd that set a keyword, as they are without it."""
    texts = {path: text for path, text in __salt__["mailhost_sshd.files"]().items() if path != name}
    silent = {path: mailhost_sshd.without(text, keyword) for path, text in texts.items()}
    return {path: text for path, text in silent.items() if text != texts[path]}


def _silenced(others, keyword):
    """Return the changes that make other files say nothing of a keyword."""
    return dict.fromkeys(others, f"{keyword} made a comment")


def _put(texts):
    __salt__["mailhost_sshd.put"](texts)


def _commit(what, change, admin, addresses, port):
    login = {"user": admin, "addresses": addresses, "port": port}
    __salt__["mailhost_guard.commit"](what, ["/etc/ssh"], change, login, ["ssh.service"])


def _wait_for_handshake(interface):
    """Wait until a peer has shaken hands lately; refuse when none does."""
    until = time.monotonic() + WAIT_SECONDS
    while (age := __salt__["mailhost_sshd.handshake"](interface)) is None or age > HANDSHAKE_SECONDS:
        if time.monotonic() > until:
            raise CommandExecutionError(
                f"sshd stays where it is: no peer has shaken hands on {interface} within {HANDSHAKE_SECONDS} s; "
                "bring your WireGuard client up and apply again"
            )
        time.sleep(2)
