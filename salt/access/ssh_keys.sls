#!py
"""1.2.4 Exactly the pillar's keys open the admin's account, and root cannot log in (before: setup_ssh_key_auth)."""

from mailhost_sls import state, task


def run():
    """The admin's authorized_keys, strays removed; then root's lock, not before the admin has been seen to come in."""
    admin = __pillar__["access"]["admin"]
    keys = {"name": admin["name"], "keys": admin["ssh_keys"]}
    return task(
        __sls__,
        {
            f"{admin['name']} logs in with the declared keys only": state("mailhost_access.authorized_keys", **keys),
            "ufw: logins are not limited": state("mailhost_firewall.logins_unlimited"),
            f"{admin['name']} gets in before root is locked out": state("mailhost_access.login_seen", **keys),
            "sshd: root cannot log in": state(
                "mailhost_sshd.settings",
                name="/etc/ssh/sshd_config.d/00-mailhost-root.conf",
                declared=[["PermitRootLogin", "no"]],
                admin=admin["name"],
            ),
        },
    )
