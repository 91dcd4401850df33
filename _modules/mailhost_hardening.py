"""Look at what the hardening controls set: each kind of thing once, as the host itself has it in effect."""

import functools
import json
import pathlib
import re

from salt.exceptions import CommandExecutionError

import mailhost_boot
import mailhost_file
import mailhost_hardening
import mailhost_mount
import mailhost_pam
import mailhost_service
import mailhost_sysctl

__all__ = ["facts"]

DATABASE = pathlib.Path("/var/lib/aide/aide.db")
BUILDER = "mailhost-aide-init.service"


def facts(wanted, admin):
    """Return what is found of what is wanted, by kind and key, and the keys this host cannot have, with the reasons.

    wanted
        Keys and their values, by kind, as in ``mailhost_hardening.CONTROLS``.
    admin
        Whose logins sshd is asked about.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_hardening.facts '{"mount": {"/dev/shm": "noexec"}}' phalkonadmin
    """
    found, absent = {}, {}
    for kind, values in wanted.items():
        try:
            found[kind], missing = _LOOKS[kind](values, admin)
        except CommandExecutionError as error:
            # A program that is not there (yet) says nothing; its words are what is found.
            found[kind], missing = dict.fromkeys(values, str(error)), {}
        absent.update({f"{kind}:{name}": reason for name, reason in missing.items()})
    return {"found": found, "absent": absent}


# One look for each kind. Each returns what is found, by key, and what cannot be there, with the reasons.


def _sysctl(values, admin):
    live = __salt__["mailhost_sysctl.read"](list(values))
    at_boot = __salt__["mailhost_sysctl.at_boot"](list(values))
    found, absent = {}, {}
    for key, value in values.items():
        wrong = {name: entry for name, entry in live[key].items() if entry["value"] != value}
        found[key] = value if live[key] and not wrong else ", ".join(entry["value"] for entry in wrong.values())
        if why := mailhost_sysctl.reason(live[key]):
            absent[key] = why
        elif not wrong and at_boot[key] != value:
            found[key] = f"{at_boot[key] or 'not set'} at boot"
    return found, absent


def _sshd(values, admin):
    effective = __salt__["mailhost_sshd.effective"](admin)
    found = {}
    for keyword, value in values.items():
        lines = effective.get(keyword.lower(), [])
        found[keyword] = value if [line.lower() for line in lines] == [value.lower()] else ", ".join(lines)
    return found, {}


def _module(values, admin):
    shown = __salt__["mailhost_run.program"](["modprobe", "--showconfig"])
    refused = set(re.findall(r"^install (\S+) /(?:usr/)?bin/false$", shown, re.MULTILINE))
    names = {name: name.replace("-", "_") for name in values}
    return {name: values[name] if {name, other} & refused else "can be loaded" for name, other in names.items()}, {}


def _access(values, admin):
    found, absent = {}, {}
    for path in values:
        entry = __salt__["mailhost_file.look"](path, text=False)
        found[path] = mailhost_file.access(entry) if entry["kind"] else None
        if not entry["kind"]:
            absent[path] = f"{path} is not there"
    return found, absent


def _package(values, admin):
    there = __salt__["mailhost_pkg.installed"]()
    return {name: "installed" if name in there else "gone" for name in values}, {}


def _edited(values, admin, kind):
    edited = mailhost_hardening.EDITED[kind]
    text = __salt__["mailhost_file.look"](edited.path).get("text") or ""
    return {
        name: value if mailhost_file.with_settings(text, {name: value}, edited.separator) == text else None
        for name, value in values.items()
    }, {}


def _startup(values, admin):
    others = sorted(__salt__["mailhost_accounts.startup_files"]())
    return {name: value if not others else ", ".join(others) for name, value in values.items()}, {}


def _pam(values, admin):
    look = __salt__["mailhost_pam.look"]()
    enabled = [name for name, value in values.items() if value == "enabled"]
    found = {}
    for name, value in values.items():
        wrong = mailhost_pam.plan(
            [name] if value == "enabled" else enabled, [] if value == "enabled" else [name], **look
        )
        found[name] = value if not wrong else "not so in /etc/pam.d/common-*"
    return found, {}


def _limits(values, admin):
    paths = [pathlib.Path("/etc/security/limits.conf"), *sorted(pathlib.Path("/etc/security/limits.d").glob("*.conf"))]
    last = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split("#")[0].split()
            if len(words) == 4:
                last[" ".join(words[:3])] = words[3]
    return {name: last.get(name) for name in values}, {}


def _systemd(values, name):
    shown = __salt__["mailhost_run.program"](["systemd-analyze", "cat-config", f"systemd/{name}"])
    pairs = dict(re.findall(r"^(\w+)=(.*)$", shown, re.MULTILINE))
    return {key: pairs.get(key) for key in values}, {}


def _apt(values, admin):
    shown = __salt__["mailhost_run.program"](["apt-config", "dump"])
    pairs = dict(re.findall(r'^(\S+) "(.*)";$', shown, re.MULTILINE))
    return {name: pairs.get(name) for name in values}, {}


def _sudo(values, admin):
    policy = json.loads(__salt__["mailhost_run.program"](["cvtsudoers", "-f", "json", "/etc/sudoers"]))
    found = {}
    for entry in policy.get("Defaults", []):
        if "Binding" not in entry:
            for option in entry["Options"]:
                found.update({name: _spelled(value) for name, value in option.items()})
    return {name: found.get(name) for name in values}, {}


def _spelled(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mount(values, admin):
    mounted = mailhost_mount.mounted(__salt__["mailhost_mount.look"]()["mounts"])
    found, absent = {}, {}
    for path, value in values.items():
        if path not in mounted:
            absent[path] = f"{path} is no file system of its own"
            continue
        missing = set(value.split(",")) - set(mounted[path][1])
        found[path] = value if not missing else f"without {','.join(sorted(missing))}"
    return found, absent


def _unit(values, admin):
    found, absent = {}, {}
    for name in values:
        unit = __salt__["mailhost_service.look"](name)
        at_boot = unit["enabled"] in ("enabled", *mailhost_service.UNSWITCHABLE)
        found[name] = "runs" if unit["active"] == "active" and at_boot else f"{unit['active']}, {unit['enabled']}"
        if unit["load"] == "loaded" and not unit["startable"] and at_boot:
            absent[name] = f"{name}: its own conditions do not hold here"
    return found, absent


def _text(values, admin):
    found = {}
    for path, pattern in values.items():
        text = __salt__["mailhost_file.look"](path).get("text")
        found[path] = None if text is None else pattern if re.search(pattern, text) else "another text"
    return found, {}


def _group(values, admin):
    groups = __salt__["mailhost_accounts.read"]()["groups"]
    found = {name: ", ".join(groups[name]["members"]) or "empty" for name in values if name in groups}
    return found, {}


def _source(values, admin):
    known = __salt__["mailhost_pkg.security_source"]()["known"]
    return {name: value if known else "unknown to apt" for name, value in values.items()}, {}


def _integrity(values, admin):
    there = DATABASE.exists() or __salt__["mailhost_service.look"](BUILDER)["active"] == "active"
    return {name: value if there else "missing" for name, value in values.items()}, {}


def _kernel(values, admin):
    looked = __salt__["mailhost_boot.look"]()
    absent = {} if looked["grub"] else dict.fromkeys(values, "GRUB does not start this host")
    return {name: mailhost_boot.found(looked["menu"], name) for name in values}, absent


def _boot(values, admin):
    looked = __salt__["mailhost_boot.look"]()
    absent = {} if looked["grub"] else dict.fromkeys(values, "GRUB does not start this host")
    asks = mailhost_boot.password_of(looked["menu"])
    return {name: value if asks else "changed by anybody at the console" for name, value in values.items()}, absent


_LOOKS = {
    **{kind: functools.partial(_edited, kind=kind) for kind in mailhost_hardening.EDITED},
    "sshd": _sshd,
    "sysctl": _sysctl,
    "module": _module,
    "access": _access,
    "package": _package,
    "startup": _startup,
    "pam": _pam,
    "limits": _limits,
    "coredump": lambda values, admin: _systemd(values, "coredump.conf"),
    # In effect, whatever its own file says: another may be read after it.
    "journald": lambda values, admin: _systemd(values, "journald.conf"),
    "timesyncd": lambda values, admin: _systemd(values, "timesyncd.conf"),
    "apt": _apt,
    "sudo": _sudo,
    "mount": _mount,
    "unit": _unit,
    "text": _text,
    "source": _source,
    "group": _group,
    "integrity": _integrity,
    "kernel": _kernel,
    "boot": _boot,
}
