"""sudo gives only the rights that are declared."""

import mailhost_file
import mailhost_forecast
import mailhost_sudo
from mailhost_result import explained, outcome

__all__ = ["main_asks_for_password", "no_strays"]


@explained
def main_asks_for_password(name):
    """Let the main sudoers file have no rule with NOPASSWD; the rules themselves stay."""
    text = _files().get(mailhost_sudo.MAIN, "")
    wanted = mailhost_sudo.asking(text)
    changes = {"content": mailhost_file.diff(text, wanted)} if wanted != text else {}
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_sudo.put"](mailhost_sudo.MAIN, wanted),
        "has no NOPASSWD",
    )


@explained
def no_strays(name, keep):
    """Let sudoers.d hold only what packages put there and what is declared; the rest is moved to /var/backups/mailhost.

    keep
        The names that this tree manages.
    """
    strays = __salt__["mailhost_sudo.unpackaged"](mailhost_sudo.strays(_files(), keep))
    changes = {f"/etc/sudoers.d/{stray}": "moved to /var/backups/mailhost/sudoers.d" for stray in strays}
    return outcome(
        (__opts__, __context__), name, changes, lambda: __salt__["mailhost_sudo.put_away"](strays), "has no stray file"
    )


def _files():
    """Return the sudoers files as this run will have left them."""
    return mailhost_forecast.applied(__context__, "sudoers", __salt__["mailhost_sudo.files"]())
