#!py
"""1.2.1 Members of group sudo need no password (before: modify_sudoers_nopasswd)."""

from mailhost_sls import state, task


def run():
    """One file, read by visudo before it is put in place, and nothing in the main file that outdoes it."""
    return task(
        __sls__,
        {
            "dpkg has finished what it began": state("mailhost_pkg.finished"),
            "sudo is installed": state("mailhost_pkg.installed", packages=["sudo"]),
            "sudo asks its group for no password": state(
                "mailhost_file.managed",
                name="/etc/sudoers.d/90-nopasswd-sudo",
                source="salt://access/files/90-nopasswd-sudo",
                mode="0440",
                check=["visudo", "-cf"],
            ),
            "sudoers: sudoers.d has the last word": state(
                "mailhost_sudo.directory_last", admin=__pillar__["access"]["admin"]["name"]
            ),
        },
    )
