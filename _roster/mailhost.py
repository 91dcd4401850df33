"""Roster: the hosts of etc/salt/roster, each with the endpoint that answers now.

A name that is no host ends the run with a sentence and exit code 1; Salt itself would say nothing and exit 0.
"""

import os
import pathlib
import sys
import tempfile

import salt.pillar
from salt.exceptions import SaltClientError

import mailhost_endpoint
import mailhost_environment
import mailhost_interrupt
import mailhost_place
import mailhost_roster
import mailhost_ssh

# One look for the endpoint a run: Salt asks the roster more than once.
_FOUND = {}


def targets(tgt, tgt_type="glob", **kwargs):
    """Return Salt's connection data for each host of the roster that ``tgt`` matches.

    Raises SaltClientError when the roster cannot be used, no host matches, a name of a list is no host, or the only
    host asked for does not answer.
    """
    mailhost_interrupt.end_honestly()
    root = pathlib.Path.cwd()
    for directory, advice in ((root, "move the checkout"), (tempfile.gettempdir(), "set TMPDIR to another directory")):
        if said := mailhost_endpoint.unsendable(str(directory)):
            raise SaltClientError(f"{said}; {advice}")
    hosts = _hosts()
    wanted = __utils__["roster_matcher.targets"](
        {host_id: {"host": host_id} for host_id in hosts}, tgt, tgt_type, "ipv4"
    )
    missing = []
    if tgt_type == "list":  # Salt leaves out what matches nothing, without a word
        missing = [name for name in (tgt.split(",") if isinstance(tgt, str) else tgt) if name and name not in wanted]
    if missing or not wanted:
        there = ", ".join(sorted(hosts)) or "none"
        raise SaltClientError(f"{', '.join(missing) or tgt}: no such host in etc/salt/roster; there are {there}")
    return {host_id: _target(root, hosts[host_id], alone=len(wanted) == 1) for host_id in wanted}


def _hosts():
    """Return the hosts of the roster file by id."""
    path = __opts__["roster_file"]
    try:
        raw = mailhost_roster.entries(path)
        return {str(host_id): mailhost_endpoint.parse_host(str(host_id), entry) for host_id, entry in raw.items()}
    except mailhost_endpoint.InvalidRoster as error:
        raise SaltClientError(f"{path}: {error}") from None


def _target(root, host, alone):
    """Return Salt's connection data for one host."""
    if host.id not in _FOUND:
        _FOUND[host.id] = _look(root, host, alone)
    endpoint = _FOUND[host.id]
    return {
        "host": endpoint.address,
        "port": endpoint.port,
        "user": endpoint.user,
        "sudo": endpoint.user != "root",
        "priv": os.path.expanduser(host.priv) if host.priv else "agent-forwarding",
        "identities_only": bool(host.priv),
        "ssh_options": mailhost_ssh.options(root, host),
        "grains": {mailhost_environment.GRAIN: host.environment},
    }


def _pillar(host):
    """Return the host's pillar; a pillar that is not valid ends the run here, before any connection is made."""
    grains = {"id": host.id, mailhost_environment.GRAIN: host.environment}
    pillar = salt.pillar.Pillar(dict(__opts__, id=host.id), grains, host.id, "base").compile_pillar()
    if "_errors" in pillar:
        raise SaltClientError("\n".join([f"{host.id}: the pillar cannot be used", *map(str, pillar["_errors"])]))
    return pillar


def _look(root, host, alone):
    """Return the endpoint of a host that answers, and say which it is; the host is this salt-ssh's own from here on."""
    pillar = _pillar(host)
    ways = mailhost_endpoint.candidates(host, pillar)
    if host.priv:
        # The public half is enough for ssh when an agent has the private one.
        names = [os.path.expanduser(f"{host.priv}{ending}") for ending in ("", ".pub")]
        if not any(os.access(name, os.R_OK) for name in names):
            raise SaltClientError(f"etc/salt/roster: {host.id}.priv: {host.priv} cannot be read")
    try:
        endpoint = mailhost_ssh.find(root, host, ways, lambda way: _enter(root, host, way))
    except mailhost_place.Taken as error:
        raise SaltClientError(f"{host.id}: {error}; try again when it is done") from None
    except mailhost_ssh.Unreachable as error:
        if alone:
            raise SaltClientError(str(error)) from None
        # One dead host of several must not keep the others from being reached: its own run fails on it.
        print(error, file=sys.stderr)
        return ways[-1]
    print(f"{host.id}: {pillar['environment']}, by {endpoint}", file=sys.stderr)
    return endpoint


def _enter(root, host, endpoint):
    """Log in over an endpoint and take the host's place; return "", or what went wrong."""
    options = mailhost_ssh.options(root, host)
    try:
        return mailhost_place.take(options, endpoint, wait=0)
    except mailhost_place.Taken as error:
        print(f"{host.id}: {error}; waiting {mailhost_place.WAIT_SECONDS} s for it", file=sys.stderr)
        return mailhost_place.take(options, endpoint, mailhost_place.WAIT_SECONDS)
