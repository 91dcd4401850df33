"""Look at sshd and change its settings; whether a change may be kept is mailhost_guard's business."""

import grp
import os
import pathlib
import pwd
import tempfile
import time

from salt.exceptions import CommandExecutionError

import mailhost_guard
import mailhost_sshd

__all__ = ["effective", "files", "handshake", "listening", "put", "restart", "try_out", "way_in"]

MAIN = "/etc/ssh/sshd_config"


def effective(user="root", config=MAIN):
    """Return the settings that sshd applies to a user's login, by lower-case keyword, each a list of values.

    user, config
        Who would log in, and the configuration that is read.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.effective phalkonadmin
    """
    # sshd -t and -T refuse without it when sshd is not running: Debian makes it with the service.
    pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    connection = f"user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
    return mailhost_sshd.effective(__salt__["mailhost_run.program"](["sshd", "-T", "-f", config, "-C", connection]))


def try_out(text, user):
    """Refuse a drop-in that sshd cannot read, or that would keep a user from logging in by key; nothing is put in
    place.

    text
        The drop-in. It is read before everything else, as its name will have it: in sshd_config(5) the first value
        wins.
    user
        Who must be able to log in afterwards.

    Raises CommandExecutionError.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.try_out 'PermitRootLogin no' phalkonadmin
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as candidate:
        candidate.write(text + pathlib.Path(MAIN).read_text(encoding="utf-8"))
        candidate.flush()
        try:
            found = effective(user, candidate.name)
        except CommandExecutionError as error:
            raise CommandExecutionError(f"sshd refuses this: {str(error).replace(candidate.name, MAIN)}") from None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CommandExecutionError(f"{user} does not exist") from None
    groups = [grp.getgrgid(number).gr_name for number in os.getgrouplist(user, entry.pw_gid)]
    if said := mailhost_sshd.lockout(found, user, groups):
        raise CommandExecutionError(f"{user} could not log in any more: {said}")


def files():
    """Return the texts of sshd's configuration by path: the main file and the drop-ins.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.files
    """
    there = [pathlib.Path(MAIN), *sorted(pathlib.Path(f"{MAIN}.d").glob("*.conf"))]
    return {str(path): path.read_text(encoding="utf-8") for path in there if path.is_file()}


def handshake(interface):
    """Return the seconds since the last handshake of any peer on a WireGuard interface, None when there was none.

    Raises CommandExecutionError when there is no such interface.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.handshake wg0
    """
    lines = __salt__["mailhost_run.program"](["wg", "show", interface, "latest-handshakes"]).splitlines()
    times = [int(line.split()[1]) for line in lines]
    return int(time.time()) - max(times) if any(times) else None


def listening():
    """Return the addresses and ports that sshd's sockets are bound to, as the kernel says.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.listening
    """
    lines = __salt__["mailhost_run.program"](["ss", "-H", "-l", "-t", "-n", "-p"]).splitlines()
    places = [line.split()[3].rpartition(":") for line in lines if '("sshd",' in line]
    return {(address.strip("[]").partition("%")[0], int(port)) for address, _, port in places}


def put(texts):
    """Put configuration files in place by path, and let sshd read them.

    Raises CommandExecutionError when sshd refuses the whole of its configuration; it is not restarted then.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.put '{"/etc/ssh/sshd_config.d/00-root.conf": "PermitRootLogin no"}'
    """
    for path, text in texts.items():
        __salt__["mailhost_file.replace"](path, text, mode=0o600)
    effective()
    restart()


def restart():
    """Restart sshd and see that it runs. Open sessions live on (KillMode=process).

    Restart and not reload: a reload that cannot bind ends sshd for good, and says nothing.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.restart
    """
    run = __salt__["mailhost_run.program"]
    run(["systemctl", "reset-failed", "ssh.service"])
    run(["systemctl", "restart", "ssh.service"])
    run(["systemctl", "is-active", "ssh.service"])


def way_in():
    """Return the address and port of this host by which this run came in.

    Raises CommandExecutionError when it did not come in over ssh.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_sshd.way_in
    """
    login = mailhost_guard.session()
    if login is None:
        raise CommandExecutionError("how people log in is only changed by a run over ssh: nobody else can confirm it")
    return {"address": login["address"], "port": login["port"]}
