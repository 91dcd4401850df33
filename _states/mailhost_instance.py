"""The instance at Vultr and its place in the roster. On the workstation only."""

from salt.exceptions import CommandExecutionError

import mailhost_instance
import mailhost_roster
from mailhost_result import explained, outcome

__all__ = ["absent", "present"]


@explained
def present(name, host, provision, environment, ssh_keys, hostname=None):
    """Let there be one instance as declared, known by its label and our tag, and let the roster know it.

    It is never rebuilt, and resized only where the pillar says so.

    host
        The host's name in the roster.
    provision, environment, ssh_keys, hostname
        Of the pillar: its section, its environment, the admin's keys, the host's full or short name or None.
    """
    want = mailhost_instance.wanted(host, environment, provision, ssh_keys, hostname)
    seen = __salt__["mailhost_vultr.look"](want)
    if wrong := mailhost_instance.refusals(want, seen):
        raise CommandExecutionError("; ".join(wrong))
    entry = mailhost_roster.made(__opts__["mailhost_roster"], host)
    becomes = _known(host, environment, want["label"], seen["instance"], entry)
    changes = mailhost_instance.plan(want, seen, entry, becomes)

    def act():
        instance = seen["instance"]
        number = instance["id"] if instance else _order(want, seen)
        if instance and mailhost_instance.built(instance):
            _change(host, want, seen, changes)
        if "roster" in changes:
            instance = __salt__["mailhost_vultr.wait"](host, number, want["plan"])
            # What an order cannot say, and what it said but Vultr did otherwise.
            after = __salt__["mailhost_vultr.look"](want)
            _change(host, want, after, mailhost_instance.differs(want, instance, after))
            _meet(host, environment, instance, entry)

    return outcome((__opts__, __context__), name, changes, act, f"{want['label']} is as declared")


@explained
def absent(name, host, typed, provision, environment):
    """Destroy the instance with everything on it, and take it out of the roster.

    typed
        What the operator typed as the host's name, twice: only then is it meant. Where nothing but ``provision.label``
        says which instance that is, the label is typed the second time.
    host, provision, environment
        As for ``present``.
    """
    path = __opts__["mailhost_roster"]
    entry, by_hand = mailhost_roster.made(path, host), mailhost_roster.written(path, host)
    unknown = provision["label"] and not mailhost_instance.hosts({**entry, **by_hand})
    confirm = provision["label"] if unknown else host
    if list(typed) != [host, confirm]:
        how = "the roster does not know it: type the label of its instance too" if unknown else "type its name twice"
        raise CommandExecutionError(
            f"{host} is not destroyed: all its mail would go with it; {how}, HOST={host} CONFIRM={confirm}"
        )
    label = provision["label"] or f"{host}-{environment}"
    try:
        instance = mailhost_instance.mine(label, __salt__["mailhost_vultr.instances"]())
    except mailhost_instance.Unusable as error:
        raise CommandExecutionError(str(error)) from None
    if wrong := mailhost_instance.another(path, host, environment, label, instance, entry, by_hand):
        raise CommandExecutionError(wrong)
    changes = {}
    if instance:
        where = mailhost_instance.listed(mailhost_instance.addresses(instance)) or "no address yet"
        changes["instance"] = {"old": f"{label} ({instance['id']}), {where}", "new": None}
    if entry:
        changes["roster"] = {"old": mailhost_instance.listed(entry["host"]), "new": None}

    def act():
        if instance:
            __salt__["mailhost_vultr.destroy"](instance["id"])
        mailhost_roster.forget(path, host)
        __salt__["mailhost_contact.finish"](host)

    return outcome((__opts__, __context__), name, changes, act, f"there is no instance {label}")


def _known(host, environment, label, instance, entry):
    """Return what the roster must say of a host, None while it cannot be known.

    Raises CommandExecutionError when the roster means another host by this name, and when the host is there and nobody
    here knows its host key.
    """
    path = __opts__["mailhost_roster"]
    addresses = mailhost_instance.addresses(instance) if instance else []
    by_hand = mailhost_roster.written(path, host)
    said = mailhost_instance.hosts(by_hand)
    if instance and said and sorted(said) != sorted(addresses):
        raise CommandExecutionError(
            f"{path}: {host}.host is {', '.join(said)}, and Vultr's instance has {', '.join(addresses)}: take the line "
            f"out, the addresses are kept in {path}.d"
        )
    wrong = mailhost_instance.another(path, host, environment, label, instance, entry, by_hand)
    if not wrong and not instance:
        wrong = mailhost_instance.second(path, host, label, entry, by_hand)
    if wrong:
        raise CommandExecutionError(wrong)
    if instance is None or __salt__["mailhost_contact.begun"](host):
        return None
    if not entry.get("host_key"):
        if by_hand.get("host_key"):
            return {"host": addresses, "environment": environment}
        where = addresses[0] if addresses else "ADDRESS"
        raise CommandExecutionError(
            f"{host}: its host key is not known here, and nobody is to be taken for it: make adopt HOST={where} "
            "with the fingerprint from the provider's console"
        )
    return {"host": addresses, "environment": environment, "host_key": entry["host_key"]}


def _order(want, seen):
    """Order the instance, with our host key in its user data, and return its id."""
    missing = [key for blob, key in want["keys"].items() if blob not in seen["ssh_keys"]]
    keys = {**seen["ssh_keys"], **__salt__["mailhost_vultr.register"](missing)}
    data = mailhost_instance.user_data(*__salt__["mailhost_contact.first_key"](host=want["host"]))
    fields = mailhost_instance.order(want, seen, [keys[blob] for blob in want["keys"]], data)
    return __salt__["mailhost_vultr.order"](fields)


def _change(host, want, seen, changes):
    """Change in place what differs of an instance."""
    number = seen["instance"]["id"]
    fields = mailhost_instance.update(changes, want, seen)
    __salt__["mailhost_vultr.update"](number, fields, changes.get("backups", {}).get("new"))
    if "plan" in changes:
        __salt__["mailhost_vultr.resize"](host, number, want["plan"], want["snapshot"])


def _meet(host, environment, instance, entry):
    """Make the first contact where it is owed, and write the roster."""
    addresses = mailhost_instance.addresses(instance)
    key = entry.get("host_key")
    if __salt__["mailhost_contact.begun"](host):
        priv = mailhost_roster.written(__opts__["mailhost_roster"], host).get("priv")
        key = __salt__["mailhost_contact.meet"](host, environment, addresses, priv)
        __salt__["mailhost_vultr.update"](instance["id"], {"user_data": mailhost_instance.NO_USER_DATA})
    found = {"host": addresses, "environment": environment, "host_key": key}
    mailhost_roster.keep(__opts__["mailhost_roster"], host, {name: value for name, value in found.items() if value})
    __salt__["mailhost_contact.finish"](host)
