#!py
"""1.2.2 The provider's default account is gone and its uid is free (before: remove_linuxuser)."""

from mailhost_sls import state, task


def run():
    """The account, its group, home, mail spool, cron and sudoers lines."""
    name = __pillar__["access"]["default_user"]
    return task(__sls__, {f"{name} does not exist": state("mailhost_user.absent", name=name)})
