"""The instance at the provider: what is wanted, what is refused, what differs. Pure."""

import base64
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

TAG = "mailhost"
# As the API takes it, in base64; this takes the place of the one with the first host key.
NO_USER_DATA = base64.b64encode(b"#cloud-config\n").decode()
Found = Mapping[str, Any]


class Unusable(ValueError):
    """What is wanted and what is there do not go together; the message is one sentence."""


def wanted(
    host: str, environment: str, provision: Found, ssh_keys: Iterable[str], hostname: str | None
) -> dict[str, Any]:
    """Return what the instance must be.

    host
        The host's name in the roster.
    provision
        The pillar's section.
    ssh_keys
        The admin's public keys, which open root's account of a new instance.
    hostname
        The host's full or short name, where the pillar has one.
    """
    tags = [TAG, *(tag for tag in provision["tags"] if tag != TAG)]
    keys = {key.split()[1]: key for key in ssh_keys}
    named = {name: provision[name] for name in ("plan", "region", "image", "backups", "firewall_group")}
    least = {"vcpu_count": provision["cpus"], "ram": 1024 * provision["memory_gb"], "disk": provision["disk_gb"]}
    label = provision["label"] or f"{host}-{environment}"
    permitted = {name: provision[name] for name in ("resize", "snapshot")}
    return {
        **named,
        **permitted,
        "host": host,
        "label": label,
        "tags": tags,
        "keys": keys,
        "hostname": hostname or host,
        "least": least,
    }


def mine(label: str, instances: Iterable[Found]) -> Found | None:
    """Return the one instance with this label and our tag, None when there is none.

    Raises Unusable when there are several, or one that is not ours: a second of the same name would be made, or
    somebody else's changed.
    """
    found = [instance for instance in instances if instance["label"] == label]
    if len(found) > 1:
        ids = ", ".join(instance["id"] for instance in found)
        raise Unusable(f"Vultr has {len(found)} instances labelled {label} ({ids}): relabel or destroy all but one")
    if found and TAG not in found[0]["tags"]:
        raise Unusable(
            f"Vultr's instance {label} ({found[0]['id']}) has no tag {TAG}, so it was not made here: give it the tag "
            "if it is to be this host, or set provision.label"
        )
    return found[0] if found else None


def another(
    path: str, host: str, environment: str, label: str, instance: Found | None, made: Found, written: Found
) -> str | None:
    """Return why what the roster knows as this host cannot be Vultr's instance of this label, None when it can.

    path
        The roster's.
    instance
        The one of this label, None when there is none.
    made, written
        What was found out of the host, and what people wrote of it; either may be empty.
    """
    entry = {**made, **written}
    if entry.get("environment", environment) != environment:
        return (
            f"{path}: {host} is of {entry['environment']}, and {environment} was asked for: give another HOST=, or "
            f"ENV={entry['environment']}"
        )
    known = hosts(entry)
    if not instance or not known or set(known) & set(addresses(instance)):
        return None
    return (
        f"{path}: {host} is at {listed(known)}, and Vultr's instance {label} has "
        f"{listed(addresses(instance)) or 'no address yet'}: give another HOST=, correct "
        f"provision.label, or, if it is the same host, {forgetting(path, host, made)}"
    )


def second(path: str, host: str, label: str, made: Found, written: Found) -> str | None:
    """Return why no instance is ordered: the roster knows the host already, and an order would take its place there.

    Params as for ``another``.
    """
    if known := hosts({**made, **written}):
        return (
            f"{path}: {host} is at {listed(known)}, and Vultr has no instance {label}: give another HOST=, correct "
            f"provision.label, or, if that host is gone, {forgetting(path, host, made)}"
        )
    return None


def hosts(entry: Found) -> list[str]:
    """Return the addresses of an entry of the roster, which people may write as one."""
    said = entry.get("host") or []
    return list(map(str, said if isinstance(said, list) else [said]))


def forgetting(path: str, host: str, made: Found) -> str:
    """Return how the roster comes to know no address of a host."""
    return f"remove {path}.d/{host}" if made.get("host") else f"take {host}.host out of {path}"


def refusals(want: Found, seen: Found) -> list[str]:
    """Return why the instance cannot be as wanted: names that Vultr does not have, and what a rebuild would take."""
    plans, found = seen["plans"], []
    found += _unknown("image", want["image"], seen["images"])
    found += _unknown("region", want["region"], seen["regions"])
    found += _unknown("plan", want["plan"], plans)
    if want["firewall_group"]:
        found += _unknown("firewall_group", want["firewall_group"], seen["firewall_groups"])
    if found:
        return found
    plan = plans[want["plan"]]
    for name, key in (("vcpu_count", "cpus"), ("ram", "memory_gb"), ("disk", "disk_gb")):
        if plan[name] < want["least"][name]:
            unit = 1024 if name == "ram" else 1
            found.append(
                f"provision.{key}: plan {want['plan']} has {plan[name] / unit:g}, not {want['least'][name] // unit}"
            )
    instance = seen["instance"]
    if instance is None:
        if want["region"] not in plan["locations"]:
            where = ", ".join(sorted(plan["locations"])) or "no region"
            found.append(f"provision.plan: {want['plan']} is not to be had in {want['region']} now; it is in {where}")
        return found
    return found + _cannot(want, instance, seen)


def _cannot(want: Found, instance: Found, seen: Found) -> list[str]:
    """Return what of an instance that is there cannot be changed into what is wanted."""
    found = []
    if instance["region"] != want["region"]:
        found.append(f"provision.region: the instance is in {instance['region']}, and Vultr cannot move it")
    if instance["os_id"] != seen["images"][want["image"]]:
        found.append(f"provision.image: the instance has {instance['os']}; another image would erase it")
    if instance["status"] not in ("active", "pending", "resizing"):
        found.append(f"Vultr's instance {instance['label']} is {instance['status']}: see to that at the provider")
    elif instance["status"] == "active" and instance["power_status"] != "running":
        found.append(f"Vultr's instance {instance['label']} is switched off: start it at the provider")
    if instance["plan"] != want["plan"]:
        if not want["resize"]:
            found.append(
                f"provision.plan: the instance has {instance['plan']}, not {want['plan']}: with provision.resize: true "
                "it is resized, which restarts it"
            )
        elif want["plan"] not in seen["upgrades"]:
            can = ", ".join(seen["upgrades"]) or "nothing"
            found.append(f"provision.plan: Vultr can resize the instance to {can}, not to {want['plan']}")
    return found


def _unknown(key: str, name: str, known: Iterable[str]) -> list[str]:
    """Return that a name is not one of Vultr's, with those that look like it."""
    known = sorted(known)
    if name in known:
        return []
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    there = f"near it is {' or '.join(near)}" if near else f"there are {', '.join(known) or 'none'}"
    return [f"provision.{key}: Vultr has no {name!r}; {there}"]


def plan(want: Found, seen: Found, entry: Found, becomes: Found | None) -> dict[str, Any]:
    """Return what differs, by what a person calls it.

    entry
        What the roster says of the host; may be empty.
    becomes
        The same as it must be; None while the addresses and the host key are not known.
    """
    instance, changes = seen["instance"], {}
    if instance is None:
        if missing := [key for blob, key in want["keys"].items() if blob not in seen["ssh_keys"]]:
            names = ", ".join(" ".join(key.split()[2:]) or "a key" for key in missing)
            changes["ssh keys at Vultr"] = {"old": None, "new": names}
        changes["instance"] = {"old": None, "new": described(want)}
    elif built(instance):
        changes.update(differs(want, instance, seen))
    if becomes is None or "IPv6" in changes:
        changes["roster"] = {"old": listed(entry.get("host")), "new": "its addresses and host key"}
    elif entry != becomes:
        changes["roster"] = {"old": listed(entry.get("host")), "new": listed(becomes["host"])}
    return changes


def listed(addresses: Iterable[str] | None) -> str | None:
    """Return addresses as a change shows them."""
    return ", ".join(addresses) if addresses else None


def described(want: Found) -> str:
    """Return what is ordered, in one line."""
    backups = f"backups {want['backups']}" if want["backups"] else "no backups"
    group = [f"firewall group {want['firewall_group']}"] if want["firewall_group"] else []
    tags = f"tags {', '.join(want['tags'])}"
    parts = [f"{want['plan']} in {want['region']}", want["image"], backups, "IPv6", tags, *group]
    return f"{want['label']}: {', '.join(parts)}"


def built(instance: Found) -> bool:
    """Whether an instance is more than ordered: before, it does not say what it will have."""
    return bool(instance["status"] != "pending")


def differs(want: Found, instance: Found, seen: Found) -> dict[str, Any]:
    """Return what of an instance that is there is changed in place."""
    changes: dict[str, Any] = {}
    if instance["plan"] != want["plan"]:
        if want["snapshot"]:
            changes["snapshot"] = {"old": None, "new": f"before {instance['plan']} becomes {want['plan']}"}
        changes["plan"] = {"old": instance["plan"], "new": want["plan"]}
    if missing := [tag for tag in want["tags"] if tag not in instance["tags"]]:
        old = instance["tags"]
        changes["tags"] = {"old": ", ".join(old), "new": ", ".join([*old, *missing])}
    if seen["backups"] != want["backups"]:
        changes["backups"] = {"old": seen["backups"], "new": want["backups"]}
    if "ipv6" not in instance["features"]:
        changes["IPv6"] = {"old": "off", "new": "on"}
    groups = seen["firewall_groups"]
    if want["firewall_group"] and instance["firewall_group_id"] != groups[want["firewall_group"]]:
        old = next((name for name, number in groups.items() if number == instance["firewall_group_id"]), None)
        changes["firewall group"] = {"old": old, "new": want["firewall_group"]}
    return changes


def order(want: Found, seen: Found, key_ids: Iterable[str], user_data: str) -> dict[str, Any]:
    """Return the fields that order the instance.

    key_ids
        Vultr's ids of the keys that open root's account.
    user_data
        As cloud-init reads it.
    """
    fields = {
        "label": want["label"],
        "hostname": want["hostname"],
        "region": want["region"],
        "plan": want["plan"],
        "os_id": int(seen["images"][want["image"]]),
        "sshkey_id": list(key_ids),
        "tags": want["tags"],
        "enable_ipv6": True,
        "backups": "enabled" if want["backups"] else "disabled",
        "user_data": base64.b64encode(user_data.encode()).decode(),
        "user_scheme": "root",
        "activation_email": False,
    }
    if want["firewall_group"]:
        fields["firewall_group_id"] = seen["firewall_groups"][want["firewall_group"]]
    return fields


def update(changes: Found, want: Found, seen: Found) -> dict[str, Any]:
    """Return the fields that change the instance, all but its plan: that is a restart, and has its own request."""
    fields: dict[str, Any] = {}
    if "tags" in changes:
        fields["tags"] = list(dict.fromkeys([*seen["instance"]["tags"], *want["tags"]]))
    if "backups" in changes:
        fields["backups"] = "enabled" if changes["backups"]["new"] else "disabled"
    if "IPv6" in changes:
        fields["enable_ipv6"] = True
    if "firewall group" in changes:
        fields["firewall_group_id"] = seen["firewall_groups"][changes["firewall group"]["new"]]
    return fields


def addresses(instance: Found) -> list[str]:
    """Return the addresses that Vultr has given an instance, IPv4 first; none before it is built."""
    return [address for address in instance["addresses"] if address not in ("", "0.0.0.0", "::")]


def user_data(private: str, public: str) -> str:
    """Return what cloud-init makes of the first boot: our host key and no other, and no password opens sshd.

    The private half can be read by whoever has the API key and by every process on the host: it is good for the first
    contact, and changed in it.
    """
    indented = private.strip().replace("\n", "\n    ")
    return (
        "#cloud-config\nssh_pwauth: false\nssh_deletekeys: true\nssh_keys:\n"
        f"  ed25519_private: |\n    {indented}\n  ed25519_public: {public.strip()}\n"
    )
