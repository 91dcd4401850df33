#!py
"""1.4.3 Disk quotas for mail are one command, or on if asked for (before: prepare_disk_quotas)."""

from mailhost_sls import state, task


def run():
    """The tools always; fstab and the file system only if the pillar asks for it."""
    storage = __pillar__["storage"]
    return task(
        __sls__,
        {
            "quota tools are installed": state("mailhost_pkg.installed", packages=["quota"]),
            "mailhost-quota": state(
                "mailhost_file.managed",
                name="/usr/local/sbin/mailhost-quota",
                source="salt://storage/files/mailhost-quota",
                mode="0755",
                secret=True,  # not that it is one: a program is too long to read as a difference
            ),
            "quotas for mail": state("mailhost_storage.quota", uid=storage["vmail_uid"], **storage["quota"]),
        },
    )
