#!py
"""2.1.2 The mail database has its roles, tables and rights; services have files (before: configure_mail_database)."""

import mailhost_database
import mailhost_vpn
from mailhost_sls import state, task


def run():
    """Passwords stand in the services' files before roles get them; rights come last, when all they are on is there."""
    address = mailhost_vpn.addresses(__pillar__["vpn"])[0].split("/")[0]
    return task(
        __sls__,
        {
            "What the mail database is managed with is installed": state(
                "mailhost_pkg.installed", packages=["python3-psycopg", "python3-bcrypt"]
            ),
            "Services have files to connect with": state(
                "mailhost_database.connections", address=address, passwords=__pillar__["database"]["passwords"]
            ),
            "Database roles": state("mailhost_database.roles", passwords=__pillar__["database"]["passwords"]),
            "Database mailserver": state("mailhost_database.made"),
            "Database schema": state(
                "mailhost_database.migrated",
                migrations=[f"salt://database/migrations/{name}.sql" for name in mailhost_database.MIGRATIONS],
            ),
            "Database rights": state("mailhost_database.granted"),
            "Database: data for tests": state(
                "mailhost_database.test_data", wanted=__pillar__["database"]["test_data"]
            ),
        },
    )
