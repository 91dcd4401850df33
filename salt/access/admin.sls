#!py
"""1.2.3 The admin exists, with its uid, its shell and group sudo (before: create_phalkonadmin)."""

from mailhost_sls import state, task


def run():
    """One account; without a hash in the pillar its password is locked."""
    admin = __pillar__["access"]["admin"]
    return task(
        __sls__,
        {
            f"{admin['name']} exists": state(
                "mailhost_user.present",
                name=admin["name"],
                uid=admin["uid"],
                shell=admin["shell"],
                groups=["sudo"],
                password_hash=admin["password_hash"],
            )
        },
    )
