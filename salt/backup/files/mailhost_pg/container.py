"""Programs, on the host and in containers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from .config import Config, Failed

# No configuration of anybody's: root's home is out of a service's reach.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DOCKER_CONFIG": "/nonexistent",
}


def run(argv: Sequence[str], *, stdin: str = "", codes: Sequence[int] = (0,), timeout: float | None = None) -> str:
    """Run a program and return what it printed.

    Params: argv, with nothing secret in it; stdin, its standard input; codes, the exit codes that mean success; timeout
    in seconds. Raises Failed with the program's own words.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise Failed(f"{argv[0]}: {(error.strerror or 'cannot be run').lower()}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv[:3])}: not done after {timeout} s") from None
    if done.returncode not in codes:
        words = plain(done.stderr.strip() or done.stdout)
        raise Failed(words[-1000:] or f"{' '.join(argv[:3])}: exit code {done.returncode}")
    return done.stdout


def plain(said: str) -> str:
    """Return what a program said in one line, without the headers that pgBackRest prints of an S3 server's answer."""
    said, _, answer = said.partition("*** Path/Query ***")
    message = re.search(r"<Message>([^<]*)</Message>", answer)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " / ".join(lines).rstrip(":") + (f": {message[1]}" if message else "")


def inspect(name: str) -> dict[str, Any] | None:
    """Return what Docker knows of a container, None when there is none of that name."""
    said = run(["docker", "container", "inspect", name], codes=(0, 1))
    found: list[dict[str, Any]] = json.loads(said)
    return found[0] if found else None


def remove(name: str) -> None:
    """Remove a container, whatever it does, if it is there."""
    run(["docker", "rm", "--force", "--volumes", name], codes=(0, 1))


def running(config: Config) -> bool:
    """Return whether the database's container runs; Docker says so too of one that it starts again after each crash."""
    found = inspect(config.container)
    return bool(found and found["State"]["Running"])


def entered(config: Config) -> str | None:
    """Return since when programs can be run in the database's container; None while they cannot."""
    found = inspect(config.container)
    up = found and found["State"]["Running"] and not found["State"]["Restarting"]
    return str(found["State"]["StartedAt"]) if found and up else None


def inside(config: Config, argv: Sequence[str], *, stdin: str = "", timeout: float | None = None) -> str:
    """Run a program in the database's container, as PostgreSQL's user. Params and Raises as `run`."""
    return run(["docker", "exec", "--interactive", config.container, *argv], stdin=stdin, timeout=timeout)


def sql(config: Config, query: str, database: str = "postgres") -> str:
    """Return what the running server answers the superuser: rows, fields with | between them.

    Params: query; database, its name. Raises Failed with the server's words.
    """
    psql = ["psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"]
    psql += ["--username=postgres", "--host=/var/run/postgresql", f"--dbname={database}", "--file=-"]
    return inside(config, psql, stdin=f"{query};\n", timeout=600).strip()


def beside(config: Config, data: str | None, *, network: bool, read_only: bool = True) -> list[str]:
    """Return the argument list of a container of its own with the repositories; program and arguments are added.

    Params: data, a directory of the host that is the cluster's there, or None; network, whether it has the host's (the
    second repository is reached by that); read_only, whether the repositories are.
    """
    only = ":ro" if read_only else ""
    argv = ["docker", "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", "--read-only"]
    argv += [f"--network={'host' if network else 'none'}", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    argv += [f"--user={config.uid}:{config.uid}", "--tmpfs=/tmp", f"--tmpfs=/var/run/postgresql:uid={config.uid}"]
    argv += [f"--volume={config.archive}:/var/lib/pgbackrest/archive{only}"]
    argv += [f"--volume={config.backups}:/var/lib/pgbackrest/backup{only}"]
    argv += [f"--volume={config.project}/pgbackrest:/etc/pgbackrest:ro"]
    if data:
        argv.append(f"--volume={data}:/var/lib/postgresql/data")
    return argv
