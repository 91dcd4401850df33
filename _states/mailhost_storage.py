"""Directories of mail and databases, exact in a dry run; what is inside them is never touched."""

from salt.exceptions import CommandExecutionError

import mailhost_forecast
import mailhost_storage
from mailhost_result import explained, outcome

__all__ = ["directories", "owned", "quota", "vmail"]


@explained
def directories(name, paths):
    """Let directories be there; new ones are root's and closed until they are given away.

    paths
        Their paths, those above first.
    """
    changes = mailhost_storage.plan_directories(
        {path: __salt__["mailhost_file.look"](path, text=False) for path in paths}
    )
    if __opts__["test"]:
        for path in changes:
            mailhost_forecast.note(__context__, "directories", path, True)

    def act():
        for path in changes:
            owners, mode = mailhost_storage.NEW.split(" ")
            __salt__["mailhost_file.make_directory"](path, *owners.split(":"), mode)

    return outcome((__opts__, __context__), name, changes, act, "are there")


@explained
def vmail(name, uid, postgres_uid):
    """Let the account be there that all mail belongs to; refused when an id that is needed is somebody else's.

    uid
        Its id, and its group's.
    postgres_uid
        The id of PostgreSQL in its image: nobody on the host may have it.
    """
    real = __salt__["mailhost_accounts.read"]()
    users = mailhost_forecast.applied(__context__, "users", real["users"])
    groups = mailhost_forecast.applied(__context__, "groups", real["groups"])
    if refused := mailhost_storage.clashes(users, groups, uid, postgres_uid):
        raise CommandExecutionError("; ".join(refused))
    changes = {} if mailhost_storage.VMAIL in users else {"user": {"old": None, "new": f"uid {uid}"}}
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_storage.add_vmail"](uid, mailhost_storage.VMAIL not in groups),
        f"uid {uid}",
    )


@explained
def owned(name, paths):
    """Let directories belong to whom they should.

    paths
        ``uid:gid mode`` by path.
    """
    new = {"access": mailhost_storage.NEW, "empty": True}
    forecast = dict.fromkeys(mailhost_forecast.applied(__context__, "directories", {}), new)
    changes = mailhost_storage.plan_owners(paths, {**forecast, **__salt__["mailhost_storage.access"](list(paths))})

    def act():
        __salt__["mailhost_file.give_all"]({path: paths[path] for path in changes})

    return outcome((__opts__, __context__), name, changes, act, f"{len(paths)} directories are as declared")


@explained
def quota(name, enabled, soft_gb, hard_gb, uid):
    """Let disk quotas bound what mail may take, when that is asked for.

    enabled, soft_gb, hard_gb, uid
        The pillar's, and the id of the account that mail belongs to.

    The tool that is installed for operators does it, and says beforehand what it would do.
    """
    if not enabled:
        return outcome((__opts__, __context__), name, {}, None, "not asked for: fstab is as it was")
    # The tool as this tree has it: in a dry run it may not be installed yet.
    tool = __salt__["cp.cache_file"]("salt://storage/files/mailhost-quota")
    words = ["on", "--user", str(uid), "--soft", str(soft_gb), "--hard", str(hard_gb)]
    steps = __salt__["mailhost_storage.quota"](tool, [*words, "--dry-run"])
    changes = {"quota": {"old": "off or otherwise", "new": steps}} if steps else {}
    return outcome(
        (__opts__, __context__), name, changes, lambda: __salt__["mailhost_storage.quota"](tool, words), "as declared"
    )
