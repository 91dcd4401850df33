"""Look at the instances of Vultr, order and change them. On the workstation only."""

import os
import re
import stat
import sys
import time

from salt.exceptions import CommandExecutionError

import mailhost_instance

__all__ = ["destroy", "instances", "look", "order", "register", "resize", "update", "wait"]

POLL_SECONDS = 3
API_KEY = "VULTR_API_KEY"


def instances():
    """Return the instances of the account: id, label, tags, plan, region, addresses, state.

    CLI Example:

    .. code-block:: bash

        # As `salt-ssh mail …`, but of the workstation:
        MAILHOST_ENV=prod salt-call --local -c etc/workstation --id=mail mailhost_vultr.instances
    """
    return [_instance(node) for node in _asked(lambda api: api.list_nodes(ex_list_bare_metals=False))]


def look(want):
    """Return what Vultr has: our instance or None, and the plans, regions, images, keys and groups there are.

    want
        What ``mailhost_instance.wanted`` returned.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """
    try:
        instance = mailhost_instance.mine(want["label"], instances())
    except mailhost_instance.Unusable as error:
        raise CommandExecutionError(str(error)) from None

    def rest(api):
        keys = {}
        for pair in api.list_key_pairs():
            words = pair.public_key.split()
            if len(words) > 1:
                keys.setdefault(words[1], pair.extra["id"])
        plans = {
            size.id: {
                "vcpu_count": size.extra["vcpu_count"],
                "ram": size.ram,
                "disk": size.disk,
                "locations": size.extra["locations"],
            }
            for size in api.list_sizes(ex_list_bare_metals=False)
        }
        resized = instance is not None and instance["plan"] != want["plan"]
        return {
            "instance": instance,
            "images": {image.name: image.id for image in api.list_images()},
            "regions": [location.id for location in api.list_locations()],
            "plans": plans,
            "ssh_keys": keys,
            "firewall_groups": api.ex_firewall_groups() if want["firewall_group"] else {},
            "upgrades": api.ex_upgrades(instance["id"]) if resized else [],
            "backups": _backups(api, instance) if instance else None,
        }

    return _asked(rest)


def register(keys):
    """Give Vultr public keys, so that a new instance lets them in; return their ids by key.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """

    def act(api):
        found = {}
        for key in keys:
            name = " ".join(key.split()[2:]) or "mailhost"
            found[key.split()[1]] = api.import_key_pair_from_string(name, key).extra["id"]
        return found

    return _asked(act)


def order(fields):
    """Order an instance and return its id.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """
    return _asked(lambda api: api.ex_create(fields).id)


def update(instance_id, fields, backups=None):
    """Change an instance in place, and how often its backups are made.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """

    def act(api):
        if fields:
            api.ex_update(instance_id, fields)
        if backups:
            api.ex_set_backup_schedule(instance_id, backups)

    _asked(act)


def resize(host, instance_id, plan, snapshot):
    """Resize an instance, which restarts it, after a snapshot of it where one is wanted.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """
    if snapshot:
        made = _asked(lambda api: api.ex_create_snapshot(api.ex_get_node(instance_id), f"{host} before {plan}").id)
        _until(
            f"{host}: Vultr takes a snapshot",
            lambda: _asked(lambda api: api.ex_get_snapshot(made).state) == "available",
            f"snapshot {made} is not complete",
        )
    _asked(lambda api: api.ex_update(instance_id, {"plan": plan}))
    wait(host, instance_id, plan)


def wait(host, instance_id, plan):
    """Wait until an instance is built and has its addresses, and return it.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """

    def ready():
        found = _instance(_asked(lambda api: api.ex_get_node(instance_id)))
        built = (found["status"], found["power_status"], found["plan"]) == ("active", "running", plan)
        # Both versions: the roster must not be without one because Vultr was not done.
        versions = {":" in address for address in mailhost_instance.addresses(found)}
        return found if built and len(versions) == 2 else None

    return _until(f"{host}: Vultr builds the instance", ready, "the instance is not ready")


def destroy(instance_id):
    """Destroy an instance with everything on it.

    CLI Example: as ``salt-ssh mail …``, but by salt-call on the workstation (see ``instances``).
    """
    return _asked(lambda api: bool(api.connection.request(f"/v2/instances/{instance_id}", method="DELETE")))


def _instance(node):
    """Return libcloud's node as plain data."""
    names = ("os", "tags", "features", "status", "power_status", "firewall_group_id")
    found = {name: node.extra.get(name) for name in names}
    return {
        "id": node.id,
        "label": node.name,
        "plan": node.size,
        "region": node.extra["location"],
        "os_id": node.image,
        "addresses": node.public_ips,
        **found,
    }


def _backups(api, instance):
    """Return how often an instance's backups are made, None when they are off."""
    return api.ex_backup_schedule(instance["id"]) if "auto_backups" in instance["features"] else None


def _asked(question):
    """Ask Vultr and return the answer; whatever goes wrong is one sentence."""
    # Not at the top: the host has no libcloud, and loads this file with the others.
    import mailhost_vultr

    try:
        return question(mailhost_vultr.driver(_key()))
    except mailhost_vultr.Refused as error:
        raise CommandExecutionError(str(error)) from None


def _until(words, ready, otherwise):
    """Wait until ``ready`` returns something true, and return that; a passing failure to ask is waited out."""
    seconds = __opts__["mailhost_wait_seconds"]
    end, said = time.monotonic() + seconds, ""
    print(words, file=sys.stderr)
    while True:
        try:
            if found := ready():
                return found
            said = ""
        except CommandExecutionError as error:
            said = f" ({error})"
        if time.monotonic() > end:
            raise CommandExecutionError(f"{otherwise} after {seconds} s{said}; run again, it goes on from there")
        time.sleep(POLL_SECONDS)


def _key():
    """Return the API key; raises CommandExecutionError when there is none, or its file is not the user's alone."""
    path = (__pillar__.get("provision") or {}).get("api_key_file")
    if API_KEY in os.environ:
        key, source = os.environ[API_KEY], f"the variable {API_KEY}"
    elif __pillar__.get("vultr_api_key"):
        key, source = __pillar__["vultr_api_key"], "vultr_api_key of provider.sls"
    elif path:
        key, source = _read(os.path.expanduser(path)), f"provision.api_key_file: {path}"
    else:
        raise CommandExecutionError(
            f"there is no API key of Vultr: set {API_KEY}, or vultr_api_key in provider.sls (encrypted), or "
            "provision.api_key_file"
        )
    # It goes into a header: with anything else in it the library would refuse it, and print it.
    if not isinstance(key, str) or not re.fullmatch(r"[!-~]+", key.strip()):
        raise CommandExecutionError(f"{source}: is not an API key: it is empty, or has spaces or other signs in it")
    return key.strip()


def _read(path):
    """Return the text of a file that nobody else may read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            status = os.fstat(stream.fileno())
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise CommandExecutionError(
                    f"provision.api_key_file: {path} is not yours alone (mode {stat.S_IMODE(status.st_mode):04o}): "
                    f"chmod 600 it"
                )
            return stream.read()
    except OSError as error:
        raise CommandExecutionError(f"provision.api_key_file: {path}: {error.strerror.lower()}") from None
