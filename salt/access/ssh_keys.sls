#!py
"""1.2.4 Exactly the pillar's keys open the admin's account (seed: setup_ssh_key_auth)."""

from mailhost_sls import state, task


def run():
    """The admin's authorized_keys, strays removed."""
    admin = __pillar__["access"]["admin"]
    return task(
        __sls__,
        {
            f"{admin['name']} logs in with the declared keys only": state(
                "mailhost_access.authorized_keys", name=admin["name"], keys=admin["ssh_keys"]
            )
        },
    )
