"""Users' passwords, from the workstation: typed there or read from a file, and never in any program's arguments.

salt-ssh puts a function's arguments into the command lines of several processes on the host. So what is secret goes
over an SSH connection's standard input into a file that only root can read, and the function gets the file's path.
"""

import getpass
import json
import subprocess

from salt.exceptions import CommandExecutionError

import mailhost_mail
import mailhost_place
import mailhost_ssh
from mailhost_endpoint import Endpoint

__all__ = ["import_aliases", "import_users", "set_password", "user_add"]

WRITES, WRITES_ALIASES = "mailhost_mail.write_users", "mailhost_mail.write_aliases"
WAYS = "password_file=FILE, hash_file=FILE or generate=True"
# In a directory of memory; the function that reads the file removes it first.
_RECEIVE = f"""
umask 077
mkdir -p {mailhost_place.DIRECTORY}
file="$(mktemp {mailhost_place.DIRECTORY}/users.XXXXXXXX)" && cat >"$file" && echo "$file"
"""


def user_add(email, quota=0, messages=0, comment="", password_file=None, hash_file=None, generate=False):
    """Add a user. The password is asked for on the terminal, unless one of the last three says otherwise.

    quota, messages
        Bytes, or a size such as 10G, and the number of messages the mailbox may hold; 0 is no limit.
    password_file
        A file on this machine with the password in its first line.
    hash_file
        A file on this machine with a hash in its first line, as ``doveadm pw`` prints it.
    generate
        Whether a password is made on the host and left there in a file for root only.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.user_add ada@example.org quota=10G
    """

    def users():
        row = mailhost_mail.user(email, quota, messages, comment)
        return [row | _secret(row["email"], password_file, hash_file, generate)]

    return _written(users, WRITES, new=True)


def set_password(email, password_file=None, hash_file=None, generate=False):
    """Give a user a new password; arguments as for ``user_add``.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.set_password ada@example.org
    """

    def users():
        known = mailhost_mail.address(email)
        return [{"email": known} | _secret(known, password_file, hash_file, generate)]

    return _written(users, WRITES, new=False)


def import_users(path):
    """Add the users of a list, all of them or none; everything that is wrong with it is said before.

    path
        A CSV file on this machine. Its first line names the columns: email, password or hash (with neither, a password
        is made on the host), quota, messages, comment.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.import_users users.csv
    """

    return _written(lambda: _all(mailhost_mail.users(_read(path))), WRITES, new=True)


def import_aliases(path):
    """Add the aliases of a list, all of them or none; everything that is wrong with it is said before.

    path
        A CSV file on this machine. Its first line names the columns: source, destination, comment. An alias with
        several destinations has a line for each; the source @example.org is a catch-all.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_mail.import_aliases aliases.csv
    """
    return _written(lambda: _all(mailhost_mail.aliases(_read(path))), WRITES_ALIASES)


def _all(listed):
    """Return the rows of a list, unless anything is wrong with it."""
    rows, errors = listed
    if errors:
        raise ValueError("\n".join([*errors, "nothing was written"]))
    return rows


def _written(rows, writes, **named):
    """Send rows to the host and have them written by a function there."""
    try:
        path = _send(json.dumps(rows()))
        said = __salt__[writes](path, **named)
    except (ValueError, OSError, CommandExecutionError) as error:
        __context__["retcode"] = 1
        # Salt puts its own words before those of the host.
        return {"local": {"return": str(error).rpartition(f"{writes}': ")[2], "out": "mailhost_text"}}
    return {"local": {"return": "\n".join(said), "out": "mailhost_text"}}


def _secret(email, password_file, hash_file, generate):
    """Return the part of a user that is secret, from where the operator says; {} when one is to be made on the host."""
    if sum(map(bool, (password_file, hash_file, generate))) > 1:
        raise ValueError(f"one password, please: only one of {WAYS}")
    if generate:
        return {}
    if hash_file:
        return {"hash": mailhost_mail.hashed(_first_line(hash_file))}
    if password_file:
        return {"password": mailhost_mail.password(_first_line(password_file))}
    try:
        with open("/dev/tty", encoding="utf-8"):
            pass
    except OSError:
        raise ValueError(f"there is no terminal to ask for a password: say {WAYS}") from None
    password = mailhost_mail.password(getpass.getpass(f"password of {email}: "))
    if getpass.getpass("again: ") != password:
        raise ValueError("these were two different passwords")
    return {"password": password}


def _first_line(path):
    return (_read(path).splitlines() or [""])[0]


def _read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return stream.read()


def _send(text):
    """Put a text into a file of root's on the host, over the standard input of a connection, and return its path."""
    target = __salt__.kwargs
    endpoint = Endpoint(target["host"], target["port"], target["user"], "as in this run")
    done = subprocess.run(
        mailhost_ssh.command(target["ssh_options"], endpoint, *mailhost_place.as_root(endpoint, _RECEIVE)),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise CommandExecutionError(mailhost_ssh.refusal(done.stderr, done.returncode))
    return done.stdout.strip()
