"""Look at WireGuard and bring it up, with its own tools."""

import json
import os
import pathlib
import tempfile

from salt.exceptions import CommandExecutionError

import mailhost_rotation
import mailhost_vpn

__all__ = ["apply", "look", "make_key", "public_key", "tried", "try_key", "unreachable"]

# wg(8) reads a configuration whole before it looks for the interface; this one is nobody's.
NOBODYS = "wg-nobodys"
WANTS = "/etc/systemd/system/multi-user.target.wants"


def look(interface):
    """Return what there is of an interface: directory, file, enabled, active, link, device, rotating.

    Only states call this: it holds the private key.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.public_key
    """
    unit = __salt__["mailhost_service.look"](mailhost_vpn.unit(interface))
    if unit["load"] == "not-found" and os.path.lexists(f"{WANTS}/{mailhost_vpn.unit(interface)}"):
        unit["enabled"] = "enabled"  # it is, once the package that has the unit is back
    links = json.loads(__salt__["mailhost_run.program"](["ip", "-json", "address", "show"]))
    return {
        "directory": __salt__["mailhost_file.look"](mailhost_vpn.DIRECTORY),
        "file": __salt__["mailhost_file.look"](_path(interface)),
        "enabled": unit["enabled"],
        "active": unit["active"],
        "link": mailhost_vpn.parse_link(links, interface),
        "device": _devices().get(interface),
        "rotating": os.path.exists(mailhost_vpn.trial_key(interface)),
    }


def public_key(interface="wg0"):
    """Return the host's public key.

    Raises CommandExecutionError when the interface is not there.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.public_key
    """
    device = _devices().get(interface)
    if device is None:
        raise CommandExecutionError(f"{interface}: is not up; apply vpn.tunnel first")
    return device["public_key"]


def make_key():
    """Return a new private key; it is in no file yet.

    Only states call this.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.public_key
    """
    return __salt__["mailhost_run.program"](["wg", "genkey"]).strip()


def tried(interface, text):
    """Let wg-quick and wg read a configuration before it becomes the interface's; nothing when they are not there yet.

    ``wg-quick strip`` alone takes anything, so what it leaves is given to wg for an interface that does not exist: wg
    reads all of it first.

    Raises CommandExecutionError with their words when they refuse it.

    Only states call this: the text holds the private key.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.public_key
    """
    run = __salt__["mailhost_run.program"]
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        path = pathlib.Path(directory, f"{interface}.conf")
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")
        try:
            stripped = run(["wg-quick", "strip", str(path)])
            run(["wg", "setconf", NOBODYS, "/dev/stdin"], stdin=stripped)
        except CommandExecutionError as error:
            words = mailhost_vpn.shown(str(error))
            if "Unable to modify interface" not in words and not words.startswith("wg-quick: no such file"):
                raise CommandExecutionError(f"{_path(interface)}: not replaced: {words}") from None


def apply(vpn, text, changes):
    """Put a configuration in place and bring the interface to it; when that fails, what was there before is back.

    A change that the interface can take as it runs is given to it by ``wg syncconf`` (the unit's own reload), which
    leaves the sessions of the other peers alone; addresses and MTU need a restart.

    vpn, text
        The section of the pillar and the configuration.
    changes
        What ``mailhost_vpn.plan`` found.

    Only states call this: the text holds the private key.

    Raises CommandExecutionError.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.public_key
    """
    interface = vpn["interface"]
    before = __salt__["mailhost_file.look"](_path(interface))
    if "directory" in changes:
        os.chown(mailhost_vpn.DIRECTORY, 0, 0)
        os.chmod(mailhost_vpn.DIRECTORY, 0o700)
    if changes.keys() & {"private key", "configuration", "access"}:
        __salt__["mailhost_file.replace"](_path(interface), text, mode=0o600)
    try:
        _to_configuration(vpn, "enabled" in changes)
    except CommandExecutionError as error:
        if before.get("text") in (None, text):
            raise
        __salt__["mailhost_file.replace"](_path(interface), before["text"], mode=0o600)
        _restart(interface)
        raise CommandExecutionError(f"{error}; the configuration before is back") from None


def try_key(interface, delay, patience):
    """Make a new key and let the interface have it on trial; return its public half.

    The trial is a unit of its own, so that it goes on when this run's own connection stands still. However the unit
    ends, the interface then has the key of its configuration: the new one if a peer has shaken hands, else the old one.

    interface
        The interface.
    delay
        Seconds until it has the new key.
    patience
        Seconds that peers then have to shake hands.

    Raises CommandExecutionError when a trial is under way already, or the interface is not up.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.rotate_key
    """
    run = __salt__["mailhost_run.program"]
    __salt__["mailhost_lock.take"]()
    public_key(interface)
    file = pathlib.Path(mailhost_vpn.trial_key(interface))
    if file.exists():
        raise CommandExecutionError(f"{interface}: a new key is on trial already")
    program = file.with_suffix(".py")
    program.write_text(pathlib.Path(mailhost_rotation.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    file.touch(0o600)
    file.write_text(make_key(), encoding="utf-8")
    unit = mailhost_vpn.ROTATION
    options = [
        f"--unit={unit}",
        "--collect",
        "--quiet",
        f"--description=A new key of {interface} on trial",
        f"--property=ExecStopPost=rm -f {file} {program}",
        # Without waiting: at a shutdown nobody would do it.
        f"--property=ExecStopPost=systemctl --no-block reload {mailhost_vpn.unit(interface)}",
    ]
    run(["systemd-run", *options, "python3", str(program), interface, str(file), str(delay), str(patience)])
    return run(["wg", "pubkey"], stdin=file.read_text(encoding="utf-8")).strip()


def unreachable():
    """Return the networks that are unreachable unless another route leads to them.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.unreachable
    """
    routes = []
    for family in ("-4", "-6"):
        shown = __salt__["mailhost_run.program"](["ip", "-json", family, "route", "show", "type", "unreachable"])
        routes += json.loads(shown or "[]")
    return mailhost_vpn.unreachable(routes)


def _path(interface):
    """Return the path of an interface's configuration."""
    return f"{mailhost_vpn.DIRECTORY}/{interface}.conf"


def _devices():
    """Return the WireGuard interfaces by name; none while WireGuard is not installed."""
    try:
        return mailhost_vpn.parse_dump(__salt__["mailhost_run.program"](["wg", "show", "all", "dump"]))
    except CommandExecutionError as error:
        if str(error).startswith("wg: no such file"):
            return {}
        raise


def _to_configuration(vpn, enable):
    """Bring the interface to its configuration by the smallest step, and see that it is there."""
    interface = vpn["interface"]
    if enable:
        __salt__["mailhost_service.act"](mailhost_vpn.unit(interface), "enable")
    down = _differs(vpn)
    if down is None or down["restart"]:
        _restart(interface)
    elif down["live"]:
        __salt__["mailhost_service.act"](mailhost_vpn.unit(interface), "reload")
    after = _differs(vpn)
    if after is None or after["restart"] or after["live"]:
        left = "is not up" if after is None else ", ".join(after["restart"] + after["live"])
        raise CommandExecutionError(f"{interface}: after its configuration was applied: {left}")


def _differs(vpn):
    """Return how a running interface differs from its configuration; None when it does not run."""
    found = look(vpn["interface"])
    link, device = found["link"], found["device"]
    if found["active"] != "active" or link is None or device is None or not link["up"]:
        return None
    key = mailhost_vpn.private_key(found["file"].get("text"))
    return {"restart": mailhost_vpn.plan_restart(vpn, link), "live": mailhost_vpn.plan_live(vpn, key, device)}


def _restart(interface):
    """Start an interface anew, whatever is left: a unit that is active without it, or an interface without its unit."""
    run = __salt__["mailhost_run.program"]
    unit = mailhost_vpn.unit(interface)
    # wg-quick refuses to take down what is not there, and to bring up what is: both would end in a failed unit.
    run(["systemctl", "stop", unit], codes=(0, 1))
    if os.path.exists(f"/sys/class/net/{interface}"):
        run(["ip", "link", "delete", "dev", interface])
    run(["systemctl", "reset-failed", unit], codes=(0, 1))
    __salt__["mailhost_service.act"](unit, "start")
