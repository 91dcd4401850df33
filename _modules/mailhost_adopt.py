"""Look at a host that is there already, without writing on it. On the workstation only."""

import pathlib
import subprocess

from salt.exceptions import CommandExecutionError

import mailhost_adopt
import mailhost_place
import mailhost_ssh
from mailhost_endpoint import Endpoint, Host

__all__ = ["facts", "scan"]


def scan(addresses, ports):
    """Return the host keys that each address shows, by address and port; those that do not answer are left out.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    found = []
    for address in addresses:
        for port in ports:
            argv = ["ssh-keyscan", "-T", "5", "-p", str(port), "-t", "ed25519,ecdsa,rsa", address]
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            except OSError as error:
                raise CommandExecutionError(f"ssh-keyscan: {error.strerror.lower()}") from None
            if keys := mailhost_adopt.keys(done.stdout):
                found.append({"address": address, "port": port, "keys": keys})
    return found


def facts(name, environment, ways, key, users, priv=None):
    """Log in over one of the ways, with the host key pinned, and return what the host says of itself.

    name, environment
        As in the roster.
    ways
        What ``scan`` returned.
    key
        The host key.
    users
        Whom to try to be, in that order: root, or somebody with sudo.
    priv
        File of the operator's key; None: ssh's own choice and agent.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    root = pathlib.Path.cwd()
    host = Host(name, tuple(way["address"] for way in ways), environment, host_key=key, priv=priv)
    options = mailhost_ssh.options(root, host)
    endpoints = [Endpoint(way["address"], way["port"], user, "public") for user in users for way in ways]
    printed = []

    def enter(endpoint):
        try:
            words = mailhost_place.as_root(endpoint, "command -v python3 >/dev/null || exit 0; exec python3 -I -B -")
            printed.append(mailhost_ssh.told(options, endpoint, words, mailhost_adopt.PROBE))
        except mailhost_ssh.Unreachable as error:
            return str(error).partition(": ")[2]
        return ""

    try:
        mailhost_ssh.find(root, host, endpoints, enter)
        return mailhost_adopt.facts(printed[0])
    except (mailhost_ssh.Unreachable, mailhost_adopt.Unusable) as error:
        raise CommandExecutionError("; ".join(line.strip() for line in str(error).splitlines())) from None
