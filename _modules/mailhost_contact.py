"""The first contact with a new host: nobody else is taken for it. On the workstation only.

The host's first key is made here and given to cloud-init, so the host is known before it exists. Whoever can read the
user data has that key too, so in the first contact the host makes itself another one, which never leaves it.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

from salt.exceptions import CommandExecutionError

import mailhost_place
import mailhost_ssh
from mailhost_endpoint import Endpoint, Host

__all__ = ["begun", "finish", "first_key", "meet"]

POLL_SECONDS = 3
BOOT_SECONDS = 900
# The new key is kept as .next until the workstation has read it: a contact that breaks off goes on where it was.
_NEXT = """
set -e
if command -v cloud-init >/dev/null; then
    timeout 870 cloud-init status --wait >/dev/null || echo "cloud-init: ended with $?" >&2
fi
cd /etc/ssh
key=ssh_host_ed25519_key.next
[ -s $key.pub ] || { rm -f $key; ssh-keygen -q -t ed25519 -N "" -C "" -f $key; }
cat $key.pub
"""
_CHANGE = """
set -e
cd /etc/ssh
mv ssh_host_ed25519_key.next.pub ssh_host_ed25519_key.pub
mv ssh_host_ed25519_key.next ssh_host_ed25519_key
sync -f .
systemctl reload ssh
"""


def first_key(host):
    """Return the private and the public half of a host's first key, made when there is none.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    path = _place(host) / "key"
    if not path.exists():
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        unfinished = path.with_name("unfinished")
        unfinished.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(unfinished)]
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandExecutionError(f"ssh-keygen: {getattr(error, 'stderr', '') or error}") from None
        unfinished.with_name("unfinished.pub").replace(path.with_name("key.pub"))
        unfinished.replace(path)
    return path.read_text(), _public(path.with_name("key.pub"))


def begun(host):
    """Return whether a host has been ordered whose first contact is not over.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    return (_place(host) / "key").exists()


def meet(host, environment, addresses, priv=None):
    """Wait until a new host answers as itself, let it make itself a new host key, and return that key's public half.

    host, environment, addresses
        As in the roster.
    priv
        File of the operator's key; None: ssh's own choice and agent.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    place = _place(host)
    first, following = _public(place / "key.pub"), place / "next.pub"
    ways = [Endpoint(address, 22, "root", "public") for address in addresses]
    known = [Host(host, tuple(addresses), environment, host_key=key, priv=priv) for key in _keys(first, following)]
    endpoint, met = _answering(host, ways, known)
    if met.host_key == first:
        following.write_text(_told(met, endpoint, _NEXT, BOOT_SECONDS))
        _told(met, endpoint, _CHANGE)
        met = Host(host, tuple(addresses), environment, host_key=_public(following), priv=priv)
        _answering(host, [endpoint], [met])
    return met.host_key


def finish(host):
    """Remove the first key, once the roster has the one that counts.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``mailhost_vultr.instances``).
    """
    shutil.rmtree(_place(host), ignore_errors=True)


def _keys(first, following):
    """Return the host keys that may be met: the next one, where a contact broke off after making it, and the first."""
    return [*([_public(following)] if following.exists() else []), first]


def _answering(host, ways, known):
    """Return the way by which a host answers with one of its keys, and the host with that key."""
    seconds = __opts__["mailhost_wait_seconds"]
    end = time.monotonic() + seconds
    print(f"{host}: waiting for SSH at {', '.join(way.address for way in ways)}", file=sys.stderr)
    while True:
        answers = mailhost_ssh.open_ports(ways)
        said = [f"{way}: {answers[way.address, way.port]}" for way in ways if answers[way.address, way.port]]
        for way in ways:
            for one in known if not answers[way.address, way.port] else []:
                answer = mailhost_ssh.new_login(mailhost_ssh.options(pathlib.Path.cwd(), one), way, "true")
                if not answer:
                    return way, one
                said.append(f"{way}: {answer}")
        if time.monotonic() > end:
            raise CommandExecutionError(
                f"{host} does not let us in after {seconds} s ({'; '.join(said)}); run again, it goes on from there"
            )
        time.sleep(POLL_SECONDS)


def _told(host, endpoint, script, seconds=60):
    """Run a script as root on a host and return what it printed."""
    options = mailhost_ssh.options(pathlib.Path.cwd(), host)
    try:
        return mailhost_ssh.told(options, endpoint, mailhost_place.as_root(endpoint, script), seconds=seconds)
    except mailhost_ssh.Unreachable as error:
        raise CommandExecutionError(f"{host.id}: first contact: {error}; run again, it goes on from there") from None


def _public(path):
    """Return a public key without its comment."""
    return " ".join(path.read_text().split()[:2])


def _place(host):
    """Return the directory of a first contact."""
    return pathlib.Path(os.getcwd(), ".salt", "first", host)
