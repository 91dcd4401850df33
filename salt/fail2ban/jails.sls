#!py
"""1.3.5 Addresses that guess at SSH are banned, from Docker's ports too; the VPN never (before: install_fail2ban)."""

import mailhost_fail2ban
from mailhost_sls import state, task

FILES = ("fail2ban.local", "jail.local", "action.d/nftables-common.local")


def run():
    """The configuration stands before the package: Debian starts fail2ban at once, and must not start it without."""
    jails = mailhost_fail2ban.jails(__pillar__)
    return task(
        __sls__,
        {
            "fail2ban is configured": state(
                "mailhost_file.together",
                name=mailhost_fail2ban.DIRECTORY,
                sources={path: f"salt://fail2ban/files/{path}" for path in FILES},
                context={"jails": jails},
                check=["fail2ban-client", "-t", "-c"],
            ),
            "fail2ban is installed": state(
                "mailhost_pkg.installed", packages=["fail2ban", "nftables", "python3-systemd"]
            ),
            "fail2ban runs": state(
                "mailhost_service.running",
                name=mailhost_fail2ban.UNIT,
                package="fail2ban",
                restart_after=[f"{mailhost_fail2ban.DIRECTORY}/{path}" for path in FILES],
            ),
            "fail2ban: jails as declared": state("mailhost_fail2ban.jails", settings=jails),
        },
    )
