"""What is done with the mail database from the workstation, where the pillar is."""

import mailhost_database
import mailhost_vpn

__all__ = ["rotate_password", "verify"]


def rotate_password(role):
    """Give a role a new password and its service the file with it, without a break for who reads the file.

    libpq reads the file for each new connection, and open connections stay: Postfix and Dovecot notice nothing.

    role
        postfix, dovecot, sogo or mailadmin.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.rotate_password postfix
    """
    if __pillar__["database"]["passwords"].get(role):
        __context__["retcode"] = 1
        return f"database.passwords.{role}: the password is the pillar's: put a new one there and apply database.schema"
    path = __salt__["mailhost_database.new_password"](role)
    said = [f"{role}: has a new password, in {path}", "Copies of that file elsewhere need it now."]
    if role == "sogo":
        said.append("SOGo has the password in its own configuration: change it there and restart it.")
    return {"local": {"return": "\n".join(said), "out": "mailhost_text"}}


def verify():
    """Try everything that is said of the mail database, and print a line for each claim; nothing is changed.

    The exit code is 1 when a claim does not hold; what is not built yet is said and is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_database.verify
    """
    address = mailhost_vpn.addresses(__pillar__["vpn"])[0].split("/")[0]
    claims = __salt__["mailhost_database.claims"](address)
    if any(claim["holds"] is False for claim in claims):
        __context__["retcode"] = 1
    return {"local": {"return": mailhost_database.report(claims), "out": "mailhost_text"}}
