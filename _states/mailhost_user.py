"""Accounts, exact in a dry run: Salt's own user.absent predicts no change."""

from salt.exceptions import CommandExecutionError

import mailhost_accounts
import mailhost_forecast
import mailhost_sudo
from mailhost_result import explained, outcome

__all__ = ["absent", "ageless", "empty_groups", "present", "private_startup_files"]


@explained
def present(name, uid, shell, groups, password_hash):
    """Let an account exist with its own group of the same id and name.

    name, uid, shell, groups
        Login name, id of user and group, login shell, groups it is a member of besides its own.
    password_hash
        A crypt(5) hash, or None for a locked password.

    An account that is there with another id gets the declared one, and its files follow, those too that a run which was
    cut short has left behind. Refuses a shell that the host does not have: nobody could log in.
    """
    wanted = {
        "name": name,
        "uid": uid,
        "shell": shell,
        "home": f"/home/{name}",
        "groups": groups,
        "password_hash": password_hash,
    }
    __salt__["mailhost_accounts.refuse_shell"](shell)
    real = __salt__["mailhost_accounts.read"]()
    users = mailhost_forecast.applied(__context__, "users", real["users"])
    groups_there = mailhost_forecast.applied(__context__, "groups", real["groups"])
    changes = mailhost_accounts.plan_present(wanted, users, groups_there, __salt__["mailhost_accounts.moves"](name))
    if __opts__["test"] and changes:
        mailhost_forecast.note(__context__, "users", name, {**wanted, "gid": uid, "home_exists": True})

    def act():
        if "user" in changes:
            __salt__["mailhost_accounts.add"](name, uid, shell, wanted["home"], groups, password_hash)
        if changes.keys() - {"user"}:
            __salt__["mailhost_accounts.change"](name, changes, wanted)

    return outcome((__opts__, __context__), name, changes, act, f"uid {uid}, {shell}, in {', '.join(groups)}")


@explained
def absent(name):
    """Let an account and all it left be gone: processes, group, home, mail spool, crontab, sudoers rules.

    Refuses when the run itself came in as this account.
    """
    accounts = __salt__["mailhost_accounts.read"]()
    traces = __salt__["mailhost_accounts.traces"](name)
    files = mailhost_forecast.applied(__context__, "sudoers", __salt__["mailhost_sudo.files"]())
    sudoers = mailhost_sudo.without_user(files, name)
    changes = {kind: {"old": ", ".join(paths), "new": None} for kind, paths in traces.items()}
    if sudoers:
        changes["sudoers"] = {"old": ", ".join(sudoers), "new": None}
    if name in accounts["users"]:
        changes["user"] = {"old": f"uid {accounts['users'][name]['uid']}", "new": None}
        if __salt__["mailhost_accounts.logged_in_as"]() == name:
            raise CommandExecutionError(
                f"{name} cannot be removed by a run that came in as {name}: log in as root or as the admin"
            )
    if name in accounts["groups"]:
        changes["group"] = {"old": f"gid {accounts['groups'][name]['gid']}", "new": None}
    if __opts__["test"]:
        mailhost_forecast.note(__context__, "users", name, None)
        mailhost_forecast.note(__context__, "groups", name, None)
        for path, text in sudoers.items():
            mailhost_forecast.note(__context__, "sudoers", path, text or None)

    def act():
        for path, text in sudoers.items():
            __salt__["mailhost_sudo.put"](path, text)
        __salt__["mailhost_accounts.remove"](name, traces)

    return outcome((__opts__, __context__), name, changes, act, "does not exist and has left nothing")


@explained
def ageless(name):
    """Let no account without a password have a last day: it logs in by key, which sshd would then refuse."""
    users = mailhost_forecast.applied(__context__, "users", __salt__["mailhost_accounts.read"]()["users"])
    forecast = mailhost_forecast.applied(__context__, "users", {})
    found = __salt__["mailhost_accounts.ageing"](
        {account: user["password_hash"] or "!" for account, user in forecast.items()}
    )
    changes = {account: {"old": ends, "new": "never"} for account, ends in found.items() if account in users}

    def act():
        for account in changes:
            __salt__["mailhost_accounts.ageless"](account)

    return outcome((__opts__, __context__), name, changes, act, "no account that logs in by key ages")


@explained
def empty_groups(name, groups):
    """Let groups be there without members; members are not removed but refused, for somebody put them there.

    groups
        Their names.
    """
    there = __salt__["mailhost_accounts.read"]()["groups"]
    for group in groups:
        if members := there.get(group, {}).get("members"):
            raise CommandExecutionError(f"group {group} has members: {', '.join(members)}; nobody should be in it")
    missing = [group for group in groups if group not in there]
    changes = {group: {"old": None, "new": "a group without members"} for group in missing}

    def act():
        for group in missing:
            __salt__["mailhost_accounts.add_group"](group)

    return outcome((__opts__, __context__), name, changes, act, "are empty")


@explained
def private_startup_files(name):
    """Let the files with a dot in people's homes (.profile and the like) be nobody else's to read."""
    real = __salt__["mailhost_accounts.read"]()["users"]
    users = mailhost_forecast.applied(__context__, "users", real)
    gone = [real[name]["home"] for name in real.keys() - users.keys()]
    found = {
        path: mode
        for path, mode in __salt__["mailhost_accounts.startup_files"]().items()
        if not any(path.startswith(f"{home}/") for home in gone)
    }
    for user in mailhost_forecast.applied(__context__, "users", {}).values():
        if not __salt__["mailhost_file.look"](user["home"], text=False)["kind"]:
            skeleton = __salt__["mailhost_accounts.startup_files"](["/etc/skel"])
            found.update({path.replace("/etc/skel", user["home"], 1): mode for path, mode in skeleton.items()})
    changes = {path: {"old": mode, "new": "0640"} for path, mode in sorted(found.items())}

    def act():
        for path in changes:
            __salt__["mailhost_accounts.make_private"](path)

    return outcome((__opts__, __context__), name, changes, act, "nobody else reads them")
