"""Where mail and databases lie: which directories, whose they are, and what differs. Pure."""

from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

VMAIL = "vmail"
MAIL = "/var/mail/vmail"
PROJECTS = "/opt/mail_server"
POSTGRES = "/opt/postgres"
DATA = f"{POSTGRES}/data"
# Made by 1.4.1, and nobody's but root's until 1.4.2 says whose they are.
NEW = "0:0 0700"


def image_uid(image: str) -> int:
    """Return the user id that PostgreSQL has in an image, by its name; the image itself is asked once it is there.

    The official image's documentation: 999 in the Debian variants, 70 in the Alpine ones.
    """
    return 70 if "alpine" in image.partition("@")[0].rpartition(":")[2] else 999


def owners(vmail_uid: int, postgres_uid: int) -> dict[str, str]:
    """Return ``uid:gid mode`` by directory, those above first.

    Numbers: what PostgreSQL writes belongs to its user in the container, which has no name on the host, and the group
    of the same number may be another one's (999 is systemd-journal's on Debian 13), so the group is root's.
    """
    return {
        MAIL: f"{vmail_uid}:{vmail_uid} 0750",
        "/var/mail/queue": "0:0 0750",
        "/var/mail/backups": "0:0 0750",
        POSTGRES: "0:0 0750",
        DATA: f"{postgres_uid}:0 0700",
        f"{POSTGRES}/wal_archive": f"{postgres_uid}:0 0750",
        f"{POSTGRES}/backups": f"{postgres_uid}:0 0750",
        # Projects of Compose; certificates in them are for everybody, and secrets have modes of their own.
        PROJECTS: "0:0 0755",
        f"{PROJECTS}/postgres": "0:0 0755",
    }


def paths() -> list[str]:
    """Return the directories, those above first."""
    return list(owners(0, 0))


def plan_directories(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the directories that are missing. Params: found, what ``mailhost_file.look`` said, by path.

    Raises CommandExecutionError when something else is in the way: it may be somebody's data.
    """
    for path, there in found.items():
        if there["kind"] not in (None, "directory"):
            raise CommandExecutionError(f"{path}: is a {there['kind']}, not a directory; move it away and apply again")
    return {path: {"old": None, "new": "directory"} for path, there in found.items() if there["kind"] is None}


def clashes(users: Mapping[str, Any], groups: Mapping[str, Any], vmail_uid: int, postgres_uid: int) -> list[str]:
    """Return a sentence for each id that is somebody else's on the host."""
    found = []
    vmail, group = users.get(VMAIL), groups.get(VMAIL)
    if vmail and vmail["uid"] != vmail_uid:
        found.append(f"storage.vmail_uid: {VMAIL} is there with uid {vmail['uid']}, which its mail may belong to")
    if group and group["gid"] != vmail_uid:
        found.append(f"storage.vmail_uid: group {VMAIL} is there with gid {group['gid']}, which its mail may belong to")
    for name, user in users.items():
        if user["uid"] == vmail_uid and name != VMAIL:
            found.append(f"storage.vmail_uid: uid {vmail_uid} is {name}'s, who would own all mail")
        if user["uid"] == postgres_uid:
            found.append(
                f"postgres.image: PostgreSQL has uid {postgres_uid} in it, which is {name}'s here, who would own the "
                f"databases; give {name} another one (usermod -u)"
            )
    for name, entry in groups.items():
        if entry["gid"] == vmail_uid and name != VMAIL:
            found.append(f"storage.vmail_uid: gid {vmail_uid} is group {name}'s, who would read all mail")
    return found


def plan_owners(wanted: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose directories are not whose they should be.

    wanted
        ``uid:gid mode`` by path.
    found
        Access in the same form, and for the database's directory whether it is empty, by path.

    Raises CommandExecutionError when a database that is there belongs to another uid: to give its directory away would
    be to stop it.
    """
    changes = {}
    for path, access in wanted.items():
        there = found[path]
        old, new = there["access"].split(":")[0], access.split(":")[0]
        if path == DATA and old != new and not there["empty"]:
            raise CommandExecutionError(
                f"{path}: a database of uid {old} is in it, and in postgres.image PostgreSQL has uid {new}: the image "
                "is of another kind than the one that made it"
            )
        if there["access"] != access:
            changes[path] = {"old": there["access"], "new": access}
    return changes
