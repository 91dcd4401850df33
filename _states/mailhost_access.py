"""Who may log in, and that it has been seen to work."""

import time

from salt.exceptions import CommandExecutionError

import mailhost_access
import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["authorized_keys", "login_seen"]

WAIT_SECONDS = 30


@explained
def authorized_keys(name, keys):
    """Let exactly these keys open an account; strays are removed and named.

    A run that came in by that account changes them as what goes back unless a new login by one of them comes in.

    name, keys
        The account and its public keys, as lines of authorized_keys(5) without options.
    """
    users = mailhost_forecast.applied(__context__, "users", __salt__["mailhost_accounts.read"]()["users"])
    if name not in users:
        raise CommandExecutionError(f"{name} does not exist")
    there = __salt__["mailhost_access.keys"](users[name]["home"])
    file, directory = there["file"], there["directory"]
    for path, found, kind in ((".ssh", directory, "directory"), (".ssh/authorized_keys", file, "file")):
        if found["kind"] not in (None, kind):
            raise CommandExecutionError(
                f"{users[name]['home']}/{path}: is a {found['kind']}, not a {kind}; move it away"
            )
    changes = mailhost_access.plan_keys(keys, file.get("text"))
    wanted = {"directory": (directory, "0700"), "file": (file, "0600")}
    for kind, (found, mode) in wanted.items():
        if found["kind"] and (found["user"], found["group"], found["mode"]) != (name, name, mode):
            changes[f"{kind} access"] = {
                "old": f"{found['user']}:{found['group']} {found['mode']}",
                "new": f"{name}:{name} {mode}",
            }

    def put():
        __salt__["mailhost_access.set_keys"](name, mailhost_access.authorized_keys(keys))

    def act():
        way = __salt__["mailhost_sshd.way_in"]()
        if __salt__["mailhost_access.came_in_as"]() != name:
            put()
            return
        # The account may be the only way in: keys that open it no more go back.
        login = {"user": name, "addresses": [way["address"]], "port": way["port"]}
        __salt__["mailhost_guard.commit"](f"the keys of {name}", [f"{users[name]['home']}/.ssh"], put, login)

    return outcome((__opts__, __context__), name, changes, act, "; ".join(map(mailhost_access.fingerprint, keys)))


@explained
def login_seen(name, keys):
    """Let an account have been seen to log in by one of these keys and to use sudo, since the keys last changed.

    Without evidence the workstation that follows the run is asked to log in, and the state waits for it. Nothing on the
    host is changed, so nothing is among the changes.

    name, keys
        The account and its public keys.
    """
    result = {"name": name, "result": True, "changes": {}}
    evidence = __salt__["mailhost_access.login_evidence"](name, keys)
    if evidence or __opts__["test"]:
        return {**result, "comment": evidence or "the run will log in to see it"}
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        __salt__["mailhost_lock.tell"](login=name)
        time.sleep(1)
        if evidence := __salt__["mailhost_access.login_evidence"](name, keys):
            return {**result, "comment": evidence}
    raise CommandExecutionError(
        f"no login of {name} by a declared key, with sudo, was seen within {WAIT_SECONDS} s: "
        f"log in as {name}, run `sudo -n true`, and apply again"
    )
