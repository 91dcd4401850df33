"""PostgreSQL in its container, exact in a dry run: also before Docker, the image and the cluster are there."""

import datetime
import os

from salt.exceptions import CommandExecutionError

import mailhost_docker
import mailhost_forecast
import mailhost_postgres
import mailhost_service
from mailhost_result import explained, outcome

__all__ = ["built", "certificate", "cluster", "image", "running"]


@explained
def image(name, image, archive, uid):
    """Let Docker have the image; one that it has is not fetched again.

    image, archive
        Its name, and a file to load it from instead of its registry, or None.
    uid
        The id that PostgreSQL should have in it: its directories belong to that.
    """
    found = _looked(__salt__["mailhost_postgres.find_image"], image)
    changes = {} if found else {"image": {"old": None, "new": image}}

    def act():
        __salt__["mailhost_postgres.fetch"](image, archive)
        mailhost_postgres.require_major(__salt__["mailhost_postgres.find_image"](image)["major"], image)
        if (real := __salt__["mailhost_postgres.uid_in"](image)) != uid:
            raise CommandExecutionError(f"postgres.image: PostgreSQL has uid {real} in {image}, not {uid}")

    return outcome((__opts__, __context__), name, changes, act, f"{image} is here")


@explained
def built(name, image, base):
    """Let Docker have the image that runs: the declared one as it is now, with pgBackRest in it.

    image, base
        Its name, and the declared image's.
    """
    there = _looked(__salt__["mailhost_postgres.find_image"], image)
    changes = {}
    if there is None:
        changes["image"] = {"old": None, "new": image}
    elif isinstance(there, dict):
        of = __salt__["mailhost_postgres.find_image"](base)
        # One that a dry run would fetch again is most likely the one that was there.
        if of and there["base"] != of["id"]:
            changes["image"] = {"old": f"of another {base}", "new": image}
    if changes and __opts__["test"]:
        # What outcome() notes is this state's name; the container is made from the image.
        mailhost_forecast.note(__context__, "changed", image, True)

    def act():
        now = __salt__["mailhost_postgres.find_image"](base)
        __salt__["mailhost_postgres.build"](image, base, now["id"])

    return outcome((__opts__, __context__), name, changes, act, f"{image} is here")


@explained
def cluster(name, image, uid):
    """Let the data directory have a cluster that this host made; any other is refused, and stays.

    image, uid
        What makes it, and whose it is.
    """
    there = _looked(__salt__["mailhost_postgres.find_image"], image)
    major = there["major"] if isinstance(there, dict) else mailhost_postgres.major_of_name(image)
    found = __salt__["mailhost_postgres.cluster"]()
    if refused := mailhost_postgres.refuse_cluster(found, major, image):
        raise CommandExecutionError(refused)
    changes = {}
    if found["data"]["kind"] == "empty":
        changes["cluster"] = {"old": None, "new": "with data checksums, in UTF-8"}
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_postgres.make_cluster"](image, uid),
        f"cluster {found['marker']}",
    )


@explained
def certificate(name, subjects, uid, given):
    """Let the server have a certificate: the given one, or one of an authority of this host's own.

    subjects
        What an own one is for; it is made anew when these change, when half of its time is over, and when clients would
        refuse it. A given one that they would refuse is refused here.
    uid
        Who may read the key.
    given
        ca, certificate and key from the pillar, or None for each.
    """
    tls, changes = mailhost_postgres.TLS, {}
    if given["key"]:
        # The first is what the services come to, with verify-full.
        address = subjects[0].removeprefix("IP:")
        if said := __salt__["mailhost_postgres.refusal"](given["ca"], given["certificate"], given["key"], [address]):
            raise CommandExecutionError(f"postgres.tls: {said}")
        for what, path in (("ca", "ca.crt"), ("certificate", "server.crt"), ("key", "server.key")):
            if __salt__["mailhost_file.look"](f"{tls}/{path}").get("text") != given[what]:
                changes[what] = {"old": "another or none", "new": "as declared"}
    else:
        found = __salt__["mailhost_postgres.certificates"]()
        changes = mailhost_postgres.plan_own_certificate(found, subjects)
    look = __salt__["mailhost_file.look"](f"{tls}/server.key", text=False)
    owner = str(look.get("user")), look.get("mode")
    if not changes and owner != (str(uid), "0600"):
        changes["key"] = {"old": " ".join(owner), "new": f"{uid} 0600"}
    if __opts__["test"] and ((given["key"] and changes) or "certificate" in changes):
        # What outcome() notes is this state's name; the server reads these files.
        mailhost_forecast.note(__context__, "changed", f"{tls}/server.crt", True)

    def act():
        if given["key"]:
            __salt__["mailhost_postgres.give_certificate"](given, uid)
        elif set(changes) == {"key"}:
            __salt__["mailhost_file.give"](f"{tls}/server.key", str(uid), "0", "0600")
        else:
            __salt__["mailhost_postgres.make_certificate"](subjects, uid, "ca" in changes)

    return outcome((__opts__, __context__), name, changes, act, f"for {', '.join(subjects)}")


@explained
def running(name, image):
    """Let the container run, healthy, by its files as they are now and from its image; at every boot too.

    image
        Its name. When the container does not get healthy the files that it was healthy with come back.
    """
    forecast = mailhost_forecast.applied(__context__, "changed", {})
    unit = mailhost_service.known(
        mailhost_postgres.UNIT,
        __salt__["mailhost_service.look"](mailhost_postgres.UNIT),
        brought=False,
        forecast=forecast,
    )
    found = _looked(__salt__["mailhost_postgres.container"])
    there = _looked(__salt__["mailhost_postgres.find_image"], image)
    if found is True:
        # Docker is installed and down: this dry run would start it, and it then starts the container as it was.
        changes = {}
    else:
        changes = mailhost_postgres.plan_running(
            unit,
            found,
            "made by this run" if image in forecast else there["id"] if isinstance(there, dict) else None,
            _newer(mailhost_postgres.RESTART, unit["started"], forecast),
            bool(found and found["status"] == "running" and _to_reload(found, forecast)),
        )

    def act():
        if set(changes) <= {"enabled"}:
            __salt__["mailhost_service.act"](mailhost_postgres.UNIT, "enable")
        elif set(changes) <= {"enabled", "reloaded"}:
            __salt__["mailhost_postgres.reload"]()
        else:
            __salt__["mailhost_postgres.restart"]()

    return outcome((__opts__, __context__), name, changes, act, "runs, healthy")


def _looked(look, *arguments):
    """Return what a look at Docker finds; True when only a dry run would make it answer."""
    try:
        return look(*arguments)
    except CommandExecutionError:
        expected = mailhost_docker.UNIT in mailhost_forecast.applied(__context__, "changed", {})
        if __opts__["test"] and expected and os.path.exists("/usr/bin/docker"):
            return True
        raise


def _to_reload(container, forecast):
    """Whether files changed since the server last read them."""
    # 2026-11-22T23:04:02.512358771Z: a fraction of nine digits, where fromisoformat wants six.
    started = datetime.datetime.fromisoformat(container["started"][:19] + "+00:00").timestamp()
    if not _newer(mailhost_postgres.RELOAD, started, forecast):
        return False
    asked = "select json_build_object('read', extract(epoch from pg_conf_load_time()))"
    return bool(_newer(mailhost_postgres.RELOAD, __salt__["mailhost_postgres.sql"](asked)["read"], forecast))


def _newer(paths, since, forecast):
    """Return the files that changed since a moment, or would by this dry run."""
    expected = {path for path in paths if path in forecast}
    changed = {**dict.fromkeys(expected, 0.0), **__salt__["mailhost_service.changed"](list(paths))}
    return mailhost_service.newer(changed, since, expected)
