#!py
"""1.2.4 Exactly the pillar's keys open the admin's account, and root cannot log in (seed: setup_ssh_key_auth)."""

from mailhost_sls import state, task


def run():
    """The admin's authorized_keys, strays removed; then root's lock, kept only once the admin has come in anew."""
    admin = __pillar__["access"]["admin"]
    return task(
        __sls__,
        {
            f"{admin['name']} logs in with the declared keys only": state(
                "mailhost_access.authorized_keys", name=admin["name"], keys=admin["ssh_keys"]
            ),
            "sshd: root cannot log in": state(
                "mailhost_sshd.settings",
                name="/etc/ssh/sshd_config.d/00-mailhost-root.conf",
                declared=[["PermitRootLogin", "no"]],
                admin=admin["name"],
            ),
        },
    )
