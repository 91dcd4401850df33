"""Docker's daemon, exact in a dry run."""

from salt.exceptions import CommandExecutionError

import mailhost_docker
import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["configured", "group", "source"]


@explained
def source(name, repository, repository_key):
    """Let apt know where Docker comes from: nothing to know for Debian's own packages, else Docker's repository.

    name
        The file of the source, which is removed where Docker comes from Debian.
    repository, repository_key
        The pillar's.

    Refused when Docker is installed from the other place.
    """
    wanted = {"repository": repository, "repository_key": repository_key}
    if refused := mailhost_docker.other_engine(wanted, __salt__["mailhost_pkg.installed"]()):
        raise CommandExecutionError(refused)
    text = mailhost_docker.sources(wanted, __salt__["mailhost_docker.codename"]()) if repository else None
    found = __salt__["mailhost_file.look"](name)
    changes = {} if found.get("text") == text else {"source": {"old": found.get("text"), "new": text}}
    if changes and __opts__["test"]:
        mailhost_forecast.note(__context__, "sources", name, text)

    def act():
        if text is None:
            __salt__["mailhost_file.remove"](name)
        else:
            __salt__["mailhost_file.replace"](name, text)
        __salt__["mailhost_pkg.refresh"](forced=True)

    return outcome((__opts__, __context__), name, changes, act, f"from {repository or 'Debian'}")


@explained
def configured(name):
    """Let the daemon's file say what ``mailhost_docker.SETTINGS`` does; what else it says stays.

    name
        The file's path.
    """
    found = __salt__["mailhost_file.look"](name)
    if found["kind"] not in (None, "file"):
        raise CommandExecutionError(f"{name}: is a {found['kind']}, not a file; move it away and apply again")
    settings = mailhost_docker.parse(found.get("text"))
    changes = mailhost_docker.plan(settings)
    if __opts__["test"] and not __salt__["mailhost_docker.has_bridge"]():
        mailhost_forecast.note(__context__, "interfaces", mailhost_docker.BRIDGE, True)
        for key, value in mailhost_docker.FORWARDS.items():
            mailhost_forecast.note(__context__, "sysctl", key, value)
    if changes and mailhost_forecast.runs(__context__):
        __salt__["mailhost_docker.tried"](mailhost_docker.merged(settings))
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_docker.configure"](mailhost_docker.merged(settings), "live-restore" in changes),
        "is as declared",
    )


@explained
def group(name, admin, member):
    """Let the admin be in group docker, or not: who is in it is root.

    admin
        Login name.
    member
        Whether.
    """
    changes = mailhost_docker.plan_group(admin, member, __salt__["mailhost_docker.members"]())
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_docker.set_member"](admin, member),
        f"{admin} is {'in' if member else 'not in'} it",
    )
