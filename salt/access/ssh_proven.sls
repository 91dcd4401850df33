#!py
"""1.2.5 The admin has been seen to log in by key and to use sudo (before: test_ssh_connection)."""

from mailhost_sls import state, task


def run():
    """A login over the wire, made by the workstation while the run waits for it."""
    admin = __pillar__["access"]["admin"]
    return task(
        __sls__,
        {
            f"{admin['name']} has logged in over the network": state(
                "mailhost_access.login_seen", name=admin["name"], keys=admin["ssh_keys"]
            )
        },
    )
