"""ssh from the workstation: which endpoint of a host answers, and a new login over one of them.

Runs on the workstation only (roster, front door). Nothing here is needed on the host.
"""

import errno
import json
import os
import pathlib
import select
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

from mailhost_endpoint import CONNECT_SECONDS, HEAD_START_SECONDS, Endpoint, Host, ssh_options

LOGIN_SECONDS = 10
# The process that asks the roster first; the options it makes are handed down to those it starts.
_RUN = os.getpid()


class Unreachable(Exception):
    """No endpoint of a host answers; the message says what was tried and what each said."""


def control_path() -> str:
    """Return the path of the sockets of this run's kept connections, as ControlPath takes it.

    Each run has connections of its own: one kept from an earlier run proves nothing about the host as it is now, and
    hangs when the host was restarted in between. The path is short, since a socket's may have 107 bytes (unix(7)), and
    in a directory that is nobody else's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = pathlib.Path(runtime) if os.path.isdir(runtime) else pathlib.Path(tempfile.gettempdir())
    path = base / f"mailhost-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Unreachable(f"{path}: is not a directory of yours alone; remove it")
    return f"{path}/{_RUN}-%C"


def known_hosts(root: pathlib.Path, host: Host) -> str:
    """Return the file with the host's key: its pinned one written anew, or the one that keeps the key seen first."""
    if not host.host_key:
        return str(root / ".salt" / "known_hosts")
    path = root / ".salt" / "pinned" / host.id
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"{host.id} {host.host_key.strip()}\n"
    if not path.exists() or path.read_text() != line:
        path.write_text(line)
    return str(path)


def options(root: pathlib.Path, host: Host) -> list[str]:
    """Return ssh's options for a host as words for ``-o``, its own identity included."""
    found = ssh_options(host, known_hosts(root, host), control_path())
    if host.priv:
        found += [f"IdentityFile={os.path.expanduser(host.priv)}", "IdentitiesOnly=yes"]
    return found


def command(options_: Iterable[str], endpoint: Endpoint, *words: str) -> list[str]:
    """Return the argument list of ssh that runs ``words`` over an endpoint."""
    argv = ["ssh"]
    for option in options_:
        argv += ["-o", option]
    argv += ["-o", f"ConnectTimeout={LOGIN_SECONDS}", "-p", str(endpoint.port), "-l", endpoint.user]
    return [*argv, endpoint.address, *words]


def login(options_: Iterable[str], endpoint: Endpoint, *words: str) -> str:
    """Log in over an endpoint and run ``words``; return "" when that worked, else what ssh said.

    ssh's stderr goes to a file: a connection that is kept holds a pipe open for as long as it is kept.
    """
    with tempfile.TemporaryFile("w+") as stderr:
        try:
            done = subprocess.run(
                command(options_, endpoint, *words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=2 * LOGIN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no answer to the login"
        stderr.seek(0)
        return refusal(stderr.read(), done.returncode) if done.returncode else ""


def refusal(stderr: str, returncode: int) -> str:
    """Return why ssh failed, in a few words, from what it said."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("REMOTE HOST IDENTIFICATION HAS CHANGED" in line for line in lines):
        return "its host key is not the one known: if you reinstalled the host, remove its line from .salt/known_hosts"
    if any("Host key verification failed" in line for line in lines):
        return "its host key is not the pinned one"
    return lines[-1] if lines else f"ssh ended with {returncode}"


def is_refused(said: str) -> bool:
    """Whether sshd has answered and let the user not in, as opposed to a host or a network that is in the way."""
    return "Permission denied (" in said


def new_login(options_: Iterable[str], endpoint: Endpoint, *words: str) -> str:
    """Log in over a connection of its own: a kept one proves nothing about keys or sshd as they are now."""
    fresh = [option for option in options_ if not option.startswith("Control")]
    return login([*fresh, "ControlPath=none"], endpoint, *words)


def told(options_: Iterable[str], endpoint: Endpoint, words: Iterable[str], stdin: str = "", seconds: int = 60) -> str:
    """Log in over a connection of its own, run ``words``, and return what they print.

    Raises Unreachable with what was said when the login or the command failed.
    """
    fresh = [option for option in options_ if not option.startswith("Control")]
    argv = command([*fresh, "ControlPath=none"], endpoint, *words)
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{endpoint}: no answer in {seconds} s") from None
    if done.returncode:
        raise Unreachable(f"{endpoint}: {refusal(done.stderr, done.returncode)}")
    return done.stdout


def open_ports(endpoints: Iterable[Endpoint]) -> dict[tuple[str, int], str]:
    """Return for addresses and ports "" where they take a connection, else why not; all are asked at once.

    The endpoints are in the order they are wanted: once one takes a connection and those before it have answered,
    those after it that have not are left out. They have CONNECT_SECONDS together, or HEAD_START_SECONDS once the
    public side has answered.
    """
    pending: dict[tuple[str, int], socket.socket] = {}
    answers: dict[tuple[str, int], str] = {}
    wanted = {(endpoint.address, endpoint.port): endpoint.network for endpoint in endpoints}
    for where in wanted:
        sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        error = sock.connect_ex(where)
        if error and error != errno.EINPROGRESS:
            answers[where] = os.strerror(error).lower()
            sock.close()
        else:
            pending[where] = sock
    return _wait(wanted, pending, answers)


def _wait(
    wanted: Mapping[tuple[str, int], str],
    pending: dict[tuple[str, int], socket.socket],
    answers: dict[tuple[str, int], str],
) -> dict[tuple[str, int], str]:
    """Wait for the pending connections and add to the answers, as `open_ports` says. Params: wanted, their networks."""
    begun, seconds = time.monotonic(), CONNECT_SECONDS
    while not _settled(wanted, answers) and (left := begun + seconds - time.monotonic()) > 0:
        _, ready, _ = select.select([], list(pending.values()), [], left)
        for where, sock in list(pending.items()):
            if sock in ready:
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                answers[where] = os.strerror(error).lower() if error else ""
                pending.pop(where).close()
                if wanted[where] == "public" and not error:
                    seconds = HEAD_START_SECONDS
    for where in wanted:
        if answers.get(where) == "":
            break
        answers.setdefault(where, f"no answer in {seconds} s")
    for sock in pending.values():
        sock.close()
    return answers


def _settled(wanted: Iterable[tuple[str, int]], answers: Mapping[tuple[str, int], str]) -> bool:
    """Return whether no answer that is missing could come before the first that takes a connection."""
    for where in wanted:
        if not answers.get(where):
            return where in answers
    return True


def find(root: pathlib.Path, host: Host, endpoints: list[Endpoint], enter: Callable[[Endpoint], str]) -> Endpoint:
    """Return the first endpoint that lets us in, the one of last time before others of its network.

    A user whom the host refuses by one endpoint it refuses by all: to try the others would only be more failed logins,
    and fail2ban counts them.

    enter
        Logs in over an endpoint and returns "", or what went wrong.

    Raises Unreachable with one line for each endpoint tried.
    """
    last = _remembered(root, host.id)
    ordered = sorted(endpoints, key=lambda way: (way.network != "VPN", [way.address, way.port, way.user] != last))
    ports: dict[tuple[str, int], str] = {}
    said = []
    refused = set()
    for number, endpoint in enumerate(ordered):
        if endpoint.user in refused:
            continue
        where = (endpoint.address, endpoint.port)
        if where not in ports:
            ports |= open_ports(ordered[number:])
        answer = ports[where] or enter(endpoint)
        if not answer:
            remember(root, host.id, endpoint)
            return endpoint
        if is_refused(answer):
            refused.add(endpoint.user)
        said.append(f"  {endpoint}: {answer}")
    raise Unreachable("\n".join([f"{host.id}: no endpoint lets us in", *said]))


def _remembered(root: pathlib.Path, host_id: str) -> list[object] | None:
    """Return the endpoint that worked last, None when that is not known: a file cut short is no reason to stop."""
    try:
        found = json.loads((root / ".salt" / "endpoints" / f"{host_id}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, list) else None


def remember(root: pathlib.Path, host_id: str, endpoint: Endpoint) -> None:
    """Keep which endpoint worked, so that the next run tries it first and does not count as a failed login."""
    memory = root / ".salt" / "endpoints" / f"{host_id}.json"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps([endpoint.address, endpoint.port, endpoint.user]))
