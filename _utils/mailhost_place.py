"""The place on a host that one salt-ssh has at a time, from before it sends anything until it ends, however it ends.

Runs on the workstation only. Two of them would overwrite each other's modules and states on the host. The lock that a
run takes on the host (``mailhost_lock``) is another one: it outlives a salt-ssh that was killed while the host was at
work.
"""

import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import IO

import mailhost_ssh
from mailhost_endpoint import Endpoint
from mailhost_progress import DIRECTORY, NAME

WAIT_SECONDS = 30
BEAT_SECONDS = 5
# What salt-ssh unpacks on the host, and some room for what it sends; it would end with a traceback, or run nothing.
FREE_MB = 64
_TAKEN = 75  # EX_TEMPFAIL of sysexits.h
# The processes that hold places. They end with this process, which is the other end of their standard input.
_HELD: list[subprocess.Popen[str]] = []

# $1: seconds to wait, $2: SSH_CONNECTION. A workstation that is cut off says nothing: sshd might not notice for hours.
_SCRIPT = f"""
umask 077
free=$(( $(stat -f -c "%a * %S" /var/tmp) >> 20 ))
[ "$free" -ge {FREE_MB} ] || {{ echo "/var/tmp has $free MB free, and Salt needs {FREE_MB}: make room" >&2; exit 1; }}
mkdir -p {DIRECTORY} || exit 1
exec 9>>{DIRECTORY}/place
flock -w "$1" 9 || {{ cut -d" " -f2- {DIRECTORY}/place; exit {_TAKEN}; }}
echo "$$ from ${{2%% *}} since $(date "+%H:%M:%S %Z")" >{DIRECTORY}/place
: >{DIRECTORY}/{NAME}
echo in
while read -r -t {4 * BEAT_SECONDS} _; do :; done
"""
# Follows the file that the run writes for as long as the place is held. When standard input ends, a last line says so:
# what was written before it has then been read, however slow the connection. $1: the follower's token, for the line may
# come when the file is another's already: a connection that dies ends both what holds the place and this.
FOLLOW = f"""
tail -q -n +1 -F --pid="$(cut -d" " -f1 {DIRECTORY}/place)" {DIRECTORY}/{NAME} &
cat >/dev/null
printf '{{"end": "%s"}}\\n' "$1" >>{DIRECTORY}/{NAME}
wait
"""


class Taken(Exception):
    """Somebody else has the place; the message says who and since when."""


def take(options: Iterable[str], endpoint: Endpoint, wait: int) -> str:
    """Log in over an endpoint, become root and take the place; return "" when that worked, else what went wrong.

    An admin whose sudo is damaged is of no use: root's own login, where there still is one, can repair it.

    options, endpoint
        As for ``mailhost_ssh.command``.
    wait
        Seconds to wait for somebody else to leave.

    Raises Taken when somebody else has it all that time.
    """
    words = as_root(endpoint, _SCRIPT, str(wait))
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            mailhost_ssh.command(options, endpoint, *words, '"$SSH_CONNECTION"'),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert process.stdin and process.stdout
        ready, _, _ = select.select([process.stdout], [], [], wait + 2 * mailhost_ssh.LOGIN_SECONDS)
        said = process.stdout.readline() if ready else ""
        if said == "in\n":
            _HELD.append(process)
            threading.Thread(target=_beat, args=(process.stdin,), daemon=True).start()
            return ""
        if not ready:
            process.kill()
        process.communicate()
        stderr.seek(0)
        if process.returncode == _TAKEN:
            raise Taken(f"another salt-ssh is at work on this host, {said.strip()}")
        return mailhost_ssh.refusal(stderr.read(), process.returncode) if ready else "no answer to the login"


def as_root(endpoint: Endpoint, script: str, *arguments: str) -> list[str]:
    """Return the words, for ssh, that run a shell script as root."""
    quoted = "'" + script.replace("'", "'\\''") + "'"
    sudo = [] if endpoint.user == "root" else ["sudo", "-n"]
    return [*sudo, "bash", "-c", quoted, "mailhost", *arguments]


def _beat(stdin: IO[str]) -> None:
    """Say every few seconds that the workstation is there."""
    while True:
        try:
            stdin.write("\n")
            stdin.flush()
        except OSError:
            return  # the connection is gone, and the run with it
        time.sleep(BEAT_SECONDS)
