#!py
"""1.2.7 Nothing is left that gives rights nobody declared (before: fix_user_uid + cleanup_main_sudoers)."""

import mailhost_sudo
from mailhost_sls import state, task


def run():
    """The main sudoers asks for a password, and sudoers.d holds what packages and this tree put there."""
    return task(
        __sls__,
        {
            "sudoers: no NOPASSWD in the main file": state(
                "mailhost_sudo.main_asks_for_password", admin=__pillar__["access"]["admin"]["name"]
            ),
            "sudoers.d: no stray file": state("mailhost_sudo.no_strays", keep=list(mailhost_sudo.OURS)),
        },
    )
