"""sudo gives only the rights that are declared."""

import mailhost_file
import mailhost_forecast
import mailhost_sudo
from mailhost_result import explained, outcome

__all__ = ["directory_last", "main_asks_for_password", "no_strays"]


@explained
def directory_last(name, admin):
    """Let no rule stand after the main file's include of sudoers.d: sudo's last match wins.

    admin
        The account that must not lose its sudo by it.
    """
    return _main(name, mailhost_sudo.directory_last, admin, "sudoers.d has the last word")


@explained
def main_asks_for_password(name, admin):
    """Let the main sudoers file have no rule with NOPASSWD; the rules themselves stay.

    admin
        The account that must not lose its sudo by it.
    """
    return _main(name, mailhost_sudo.asking, admin, "has no NOPASSWD")


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


def _main(name, edit, admin, already):
    """Let the main sudoers file be as a function of its text returns it."""
    text = _files().get(mailhost_sudo.MAIN, "")
    wanted = edit(text)
    changes = {"content": mailhost_file.diff(text, wanted)} if wanted != text else {}
    if __opts__["test"] and changes:
        mailhost_forecast.note(__context__, "sudoers", mailhost_sudo.MAIN, wanted)

    def act():
        __salt__["mailhost_sudo.put"](mailhost_sudo.MAIN, wanted, admin)

    return outcome((__opts__, __context__), name, changes, act, already)


def _files():
    """Return the sudoers files as this run will have left them."""
    return mailhost_forecast.applied(__context__, "sudoers", __salt__["mailhost_sudo.files"]())
