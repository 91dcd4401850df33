"""Commit-confirm for whatever can cut the operator off: sshd, firewall, WireGuard, root's login."""

import os
import pathlib
import pwd
import time

from salt.exceptions import CommandExecutionError

import mailhost_guard

__all__ = ["commit", "settle", "status"]

WAIT_SECONDS = 20


def commit(what, paths, change, login, units=()):
    """Make a change that goes back by itself unless a new login by the changed way comes in.

    Refuses beforehand when that login could not work: the account has no key, or no sudo without a password. When the
    change itself fails, it goes back at once. When no login comes in, it stays armed, and the state fails with the time
    until which it can be confirmed: by the next run over the new way, or by ``mailhost_access.confirm``.

    what
        The change, as a phrase for people, e.g. "sshd on port 2288".
    paths
        Files and directories that the change touches.
    change
        A function that makes it.
    login
        The way that must work afterwards: user, addresses, port.
    units
        systemd units that belong to it, sshd first.

    Only states call this: it takes a function.

    Raises CommandExecutionError.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_guard.status
    """
    _refuse_hopeless(what, login)
    seconds = 60 * __pillar__["access"]["confirm_minutes"]
    try:
        entry = mailhost_guard.arm(what, paths, units, login, seconds)
    except (mailhost_guard.GuardError, OSError) as error:
        raise CommandExecutionError(f"{what}: not done: {error}") from None
    __salt__["mailhost_lock.tell"](
        note=f"{what}: armed, goes back in {seconds // 60} min unless a new login confirms it"
    )
    try:
        change()
        mailhost_guard.changed(entry["token"])
    except mailhost_guard.GuardError as error:
        mailhost_guard.forget_reverted()
        raise CommandExecutionError(f"{what}: {error}") from None
    except Exception:
        __salt__["mailhost_lock.tell"](note=_back())
        raise
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        __salt__["mailhost_lock.tell"](confirm={**login, "token": entry["token"]})
        time.sleep(1)
        if mailhost_guard.armed() is None:
            if mailhost_guard.reverted():
                mailhost_guard.forget_reverted()
                raise CommandExecutionError(f"{what}: went back before it was confirmed")
            __salt__["mailhost_lock.tell"](note=f"{what}: confirmed by a new login")
            return
    raise CommandExecutionError(f"{what}: {mailhost_guard.goes_back(entry)}")


def settle():
    """Begin a run: confirm what this login confirms; return what the operator must hear, "" when there is nothing.

    A change that was armed and never said to be made goes back at once: this run has the host for itself, so the one
    that armed it died in the middle, and nobody is ever going to confirm it.

    Raises CommandExecutionError when a change is armed that this login does not confirm: its snapshot is the only way
    back, so nothing else may be changed before it is kept or has gone back.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_guard.settle
    """
    entry = mailhost_guard.armed()
    if entry and entry["changed"] is None:
        return f"{_back()}: the run that made the change ended in the middle of it"
    if entry:
        return __salt__["mailhost_access.confirm"]()
    if gone := mailhost_guard.reverted():
        mailhost_guard.forget_reverted()
        when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(gone["when"]))
        return f"{gone['what']}: was not confirmed, everything went back at {when}"
    return ""


def status():
    """Return what is armed, "" when nothing is.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_guard.status
    """
    entry = mailhost_guard.armed()
    return f"{entry['what']}: {mailhost_guard.goes_back(entry)}" if entry else ""


def _back():
    """Let what is armed go back now; return what to tell of it."""
    try:
        said = mailhost_guard.revert()
    except (mailhost_guard.GuardError, OSError) as error:
        if mailhost_guard.armed():
            raise CommandExecutionError(str(error)) from None
        said = "it went back when its time was over"
    mailhost_guard.forget_reverted()
    return said


def _refuse_hopeless(what, login):
    """Refuse a change whose confirming login cannot work."""
    try:
        home = pwd.getpwnam(login["user"]).pw_dir
    except KeyError:
        raise CommandExecutionError(f"{what}: not done, {login['user']} does not exist") from None
    keys = pathlib.Path(home, ".ssh/authorized_keys")
    if not keys.exists() or not keys.read_text(encoding="utf-8").strip():
        raise CommandExecutionError(f"{what}: not done, {login['user']} has no key to log in with")
    if os.getuid() == 0 and login["user"] != "root":
        try:
            __salt__["mailhost_run.program"](["runuser", "-u", login["user"], "--", "sudo", "-n", "true"])
        except CommandExecutionError as error:
            raise CommandExecutionError(f"{what}: not done, {login['user']} has no sudo: {error}") from None
