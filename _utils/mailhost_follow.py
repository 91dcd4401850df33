"""Follows a run from the workstation: says which task is under way, and logs in when the run asks for it.

Runs on the workstation only. The host writes to a file that is read over a connection of its own; what it may ask for
is a login, over the endpoint in use, and one fixed command.
"""

import contextlib
import pathlib
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import mailhost_guard
import mailhost_place
import mailhost_progress
import mailhost_registry
import mailhost_ssh
from mailhost_endpoint import Endpoint

# How long a connection may take, once the run has ended, to bring what the run said last.
_LAST_WORDS_SECONDS = 5


class Follower(contextlib.AbstractContextManager["Follower"]):
    """Follow one run for as long as the context lasts."""

    def __init__(self, target: Mapping[str, Any], host_id: str) -> None:
        """Take Salt's connection data of the target (what _roster/mailhost.py gave) and its id."""
        self._host = host_id
        self._options = list(target["ssh_options"])
        self._endpoint = Endpoint(target["host"], target["port"], target["user"], "as in this run")
        self._total = len(mailhost_registry.built())
        self._begun = 0
        self._tried: set[str] = set()
        self._shown = ""
        self._token = secrets.token_hex(8)

    def __enter__(self) -> "Follower":
        words = mailhost_place.as_root(self._endpoint, mailhost_place.FOLLOW, self._token)
        self._process = subprocess.Popen(
            mailhost_ssh.command(self._options, self._endpoint, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._thread.join(_LAST_WORDS_SECONDS)
        self._process.terminate()
        self._process.wait()
        self._thread.join(2)
        if sys.stderr.isatty() and self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _read(self) -> None:
        """Act on each line the host writes."""
        assert self._process.stdout is not None
        acts: dict[str, Callable[[Any], None]] = {
            "task": self._begins,
            "note": self._say,
            "login": self._log_in,
            "confirm": self._confirm,
        }
        for line in self._process.stdout:
            for kind, value in (mailhost_progress.parse(line) or {}).items():
                if kind != "end":
                    acts[kind](value)
                elif value == self._token:
                    return

    def _say(self, words: str) -> None:
        """Say something in a line of its own."""
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}{self._host}: {words}", file=sys.stderr, flush=True)

    def _begins(self, task_id: str) -> None:
        """Say which task begins: on a terminal in one line that is written over."""
        self._begun += 1
        titles = {task.id: task.title for task in mailhost_registry.TASKS}
        self._shown = f"{self._host}: {self._begun}/{self._total}  {task_id} {titles.get(task_id, '')}"
        if sys.stderr.isatty():
            print(f"\r\033[K{self._shown}", end="", file=sys.stderr, flush=True)
        else:
            print(self._shown, file=sys.stderr, flush=True)

    def _log_in(self, user: str) -> None:
        """Log in as the user over a new connection and try sudo; what the host finds in its journal is the proof."""
        if user not in self._tried:
            self._tried.add(user)
            self._enter(Endpoint(self._endpoint.address, self._endpoint.port, user, self._endpoint.network), "true")

    def _confirm(self, way: Mapping[str, Any]) -> None:
        """Log in by the way that a change has opened, over a new connection, and confirm it.

        The host asks once a second, and a way may take a moment to open: it is tried until it works, or until sshd
        refuses the login. That is an answer, and asking again would only get this address banned.
        """
        if way["token"] in self._tried:
            return
        said = ""
        for address in way["addresses"]:
            endpoint = Endpoint(address, way["port"], way["user"], "new")
            said = self._enter(endpoint, str(mailhost_guard.PROGRAM), "confirm", way["token"], quiet=True)
            if not said or mailhost_ssh.is_refused(said):
                self._tried.add(way["token"])
                break
        if said and said not in self._tried:
            self._tried.add(said)
            self._say(said)

    def _enter(self, endpoint: Endpoint, *words: str, quiet: bool = False) -> str:
        """Log in and run a command by sudo; return what went wrong, "" when nothing did."""
        said = mailhost_ssh.new_login(self._options, endpoint, "sudo", "-n", *words)
        if not said:
            mailhost_ssh.remember(pathlib.Path.cwd(), self._host, endpoint)
            return ""
        if not quiet:
            self._say(f"login as {endpoint}: {said}")
        return f"login as {endpoint}: {said}"
