"""Look at PAM's profiles and put them in place, with Debian's own tool."""

import pathlib

__all__ = ["look", "put"]

PROFILES = pathlib.Path("/usr/share/pam-configs")
KINDS = ("auth", "account", "password", "session")
MEMORY = pathlib.Path("/var/lib/pam")
COMMON = pathlib.Path("/etc/pam.d")


def look():
    """Return the profiles there are, by name, and PAM's common files, by type.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pam.look
    """
    return {
        "profiles": {path.name: path.read_text(encoding="utf-8") for path in PROFILES.iterdir()},
        "common": {kind: (COMMON / f"common-{kind}").read_text(encoding="utf-8") for kind in KINDS},
    }


def put(enabled, disabled):
    """Let PAM use some profiles and not others.

    What somebody wrote into the managed part by hand goes; pam-auth-update(8) keeps it in /etc/pam.d/common-*.pam-old.
    It would carry over options that were changed by hand, so its memory of what it wrote is taken from it.

    Raises CommandExecutionError with its words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pam.put '["mailhost-faillock"]' '[]'
    """
    for kind in (*KINDS, "session-noninteractive"):
        (MEMORY / kind).unlink(missing_ok=True)
    words = ["pam-auth-update", "--force", "--enable", *enabled]
    __salt__["mailhost_run.program"]([*words, "--disable", *disabled] if disabled else words)
