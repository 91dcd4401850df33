"""Run a program, or say in its own words why it failed."""

import os
import subprocess

from salt.exceptions import CommandExecutionError

__all__ = ["program"]

# What every program of ours runs in: no questions, no translated output.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
}


def program(argv, stdin=None, timeout=900, codes=(0,), env=None):
    """Run a program without a shell and return what it printed.

    argv
        The program and its arguments, a list. Secrets never go here: anyone may read a process's arguments.
    stdin
        Text for its standard input; this is where secrets go.
    timeout
        Seconds until it is killed.
    codes
        The exit codes that mean success.
    env
        Environment variables to add.

    Raises CommandExecutionError with the program's own words when it cannot be run, fails or takes too long.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_run.program '["systemctl", "is-system-running"]'
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin or "",
            env={
                **ENVIRONMENT,
                **{name: os.environ[name] for name in ("TMPDIR",) if name in os.environ},
                **(env or {}),
            },
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise CommandExecutionError(f"{argv[0]}: {error.strerror.lower()}") from None
    except subprocess.TimeoutExpired:
        raise CommandExecutionError(f"{' '.join(argv)}: not done after {timeout} s") from None
    if done.returncode not in codes:
        words = " / ".join(line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip())
        raise CommandExecutionError(f"{' '.join(argv)}: {words[-800:] or f'exit code {done.returncode}'}")
    return done.stdout
