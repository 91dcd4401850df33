"""A throw-away copy of the project as an operator has it: its own roster and pillar, and salt-ssh run from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from .host import Host
from .image import ARCHIVE
from .lab import Namespace

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("dev", "staging", "prod")
# What salt-ssh reads; the roster and the pillars are not copied, they are the test's.
_PARTS = ("Saltfile", "etc", "salt", "workstation", "_*")
# Hardening where it is not what is tested: the scripts of aide-common run 18000 programs, half of a fresh host's time.
AIDE_OFF = {"V08": "AIDE takes a minute to install"}
QUICK = {"profile": "basic", "disabled": AIDE_OFF}
_SECONDS = 900  # a whole tree on a host of one of several tests, on two processors


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    def data(self) -> dict[str, Any]:
        """Return what ``--out=json`` printed: one object, also when there is one for each host or text before it."""
        merged: dict[str, Any] = {}
        for found in _objects(self.stdout):
            merged.update(found)
        return merged

    def states(self, host: str = "mail") -> dict[str, State]:
        """Return the states of a run by id, in the order they ran; none when something else came back."""
        returned = self.data().get(host)
        if not isinstance(returned, dict):
            return {}
        rows = [(key, value) for key, value in returned.items() if isinstance(value, dict) and "__run_num__" in value]
        return {
            key.split("_|-")[1]: State(row["result"], row.get("changes") or {}, str(row["comment"]))
            for key, row in sorted(rows, key=lambda item: item[1]["__run_num__"])
        }

    def __str__(self) -> str:
        return f"exit code {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@dataclass(frozen=True)
class State:
    """What a state said: result (None: would change), changes, comment."""

    result: bool | None
    changes: dict[str, Any]
    comment: str


@dataclass(frozen=True)
class Run(Mapping[str, State]):
    """A run of state.apply: its states by id, and how salt-ssh ended."""

    result: Result
    states: dict[str, State]
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def returncode(self) -> int:
        """salt-ssh's exit code."""
        return self.result.returncode

    @property
    def stderr(self) -> str:
        """What salt-ssh printed beside the result."""
        return self.result.stderr

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.result.seconds

    @property
    def changed(self) -> dict[str, dict[str, Any]]:
        """The changes made, or in a dry run those to come, by state id."""
        return {name: state.changes for name, state in self.items() if state.changes or state.result is None}

    @property
    def failed(self) -> dict[str, str]:
        """The comments of the states that failed themselves, by id."""
        stopped = "One or more requisite failed"
        failed = {name: state.comment for name, state in self.items() if state.result is False}
        return {name: comment for name, comment in failed.items() if not comment.startswith(stopped)}

    def __getitem__(self, state_id: str) -> State:
        return self.states[state_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.states)

    def __len__(self) -> int:
        return len(self.states)


class Checkout:
    """A copy of the tree under test, in a directory of its own."""

    def __init__(self, directory: Path, host: Host | None = None, thin: Path | None = None) -> None:
        """Copy the tree.

        Params: directory, where to, not yet there and without a space in its path; host, the one that the roster names
        ``mail`` (environment dev) and whose lab's key the pillars let in, without it the test writes both itself; thin,
        where copies share what Salt packs for hosts, which takes it some seconds.
        """
        self.directory = directory
        self._seconds = _SECONDS * (host.patience if host else 1)
        directory.mkdir(parents=True)
        for pattern in _PARTS:
            for part in PROJECT.glob(pattern):
                if part.is_dir():
                    shutil.copytree(part, directory / part.name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(part, directory)
        (directory / "pillar").mkdir()
        shutil.copy(PROJECT / "pillar/top.sls", directory / "pillar")
        self._thin, self._shared_thin = directory / ".salt/cache/thin", thin
        if thin and thin.exists():
            shutil.copytree(thin, self._thin)
        # Kept connections: a directory of this copy's own, and short, for a socket's path may have 107 bytes.
        self._runtime = Path(tempfile.mkdtemp(prefix="mh."))
        (directory / "etc/salt/roster").unlink(missing_ok=True)
        shutil.rmtree(directory / "etc/salt/roster.d", ignore_errors=True)
        if host is not None:
            self.roster({"mail": self.entry(host)})
            for environment in ENVIRONMENTS:
                self.pillar(self.good_pillar(host), environment)

    # --- what the operator writes

    @staticmethod
    def entry(server: Host, **changes: Any) -> dict[str, Any]:
        """Return a host's entry for the roster; ``changes`` replace keys of it, None removes one."""
        key = str(server.directory / "id_ed25519")
        whole = {"host": [server.ipv4, server.ipv6], "environment": "dev", "priv": key, **changes}
        return {name: value for name, value in whole.items() if value is not None}

    @staticmethod
    def public_key(host: Host) -> str:
        """Return the public half of the lab's key, as a line of authorized_keys."""
        return (host.directory / "id_ed25519.pub").read_text().strip()

    @classmethod
    def good_pillar(cls, host: Host, **admin: Any) -> dict[str, Any]:
        """Return a pillar that lets the lab's key in; ``admin`` adds keys of access.admin.

        A lab host is as large as this machine happens to be, and reaches no registry of images.
        """
        return {
            "access": {"admin": {"ssh_keys": [cls.public_key(host)], **admin}},
            "provision": {"cpus": 1, "memory_gb": 1, "disk_gb": 1},
            "postgres": {"image_archive": ARCHIVE},
        }

    def roster(self, entries: Mapping[str, Any]) -> None:
        """Write etc/salt/roster."""
        (self.directory / "etc/salt/roster").write_text(yaml.safe_dump(dict(entries)))

    def pillar(self, values: Mapping[str, Any], environment: str = "dev") -> None:
        """Write the pillar of an environment."""
        path = self.directory / "pillar" / environment / "init.sls"
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!yaml\n" + yaml.safe_dump(dict(values)))

    # --- what the operator types

    def command(self, *words: str) -> list[str]:
        """Return the argument list of salt-ssh, the one beside the Python that runs the tests."""
        return [str(Path(sys.executable).with_name("salt-ssh")), *words]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables salt-ssh is run with; ``env`` is added."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TERM", "USER") if name in os.environ}
        return {**kept, "PATH": path, "XDG_RUNTIME_DIR": str(self._runtime), **(env or {})}

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, inside: Namespace | None = None
    ) -> subprocess.Popen[str]:
        """Start salt-ssh and return its process, leader of a group of its own as a shell makes it. Params as `salt`."""
        return self._started([*(inside.enter() if inside else []), *self.command(*words)], env)

    def _started(self, argv: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[str]:
        """Start a program of the operator's, leader of a group of its own."""
        return subprocess.Popen(
            argv,
            cwd=self.directory,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def salt(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        inside: Namespace | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Run salt-ssh from the copy's root.

        Params: words after ``salt-ssh``; env, environment variables to add; inside, a namespace to be the workstation
        in; timeout in seconds, after which it is killed and TimeoutExpired raised: none given, what a whole tree takes.
        """
        begun = time.monotonic()
        return self.finish(self.start(*words, env=env, inside=inside), begun, timeout or self._seconds)

    def local(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = _SECONDS) -> Result:
        """Run salt-call on the workstation itself, as make does. Params as `salt`."""
        argv = [str(Path(sys.executable).with_name("salt-call")), "--local", "--config-dir", "etc/workstation"]
        shown = [] if any(word.startswith("--out") for word in words) else ["--out", "mailhost_local"]
        begun = time.monotonic()
        process = self._started([*argv, "--id", "mail", "--retcode-passthrough", *shown, *words], env)
        return self.finish(process, begun, timeout)

    @staticmethod
    def finish(process: subprocess.Popen[str], begun: float, timeout: float = _SECONDS) -> Result:
        """Wait for a process made by `start` and return what it left behind; after the timeout it is killed."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return Result(process.returncode, stdout, stderr, time.monotonic() - begun)

    def apply(
        self,
        *sls: str,
        test: bool = False,
        host: str = "mail",
        env: Mapping[str, str] | None = None,
        words: Sequence[str] = (),
        inside: Namespace | None = None,
    ) -> Run:
        """Run state.apply. Params: sls, the state files, all of them without; test, only say what would change; words,
        to be added to the command line; the rest as `salt`.
        """
        named = [",".join(sls)] if sls else []
        tested = ["test=True"] if test else []
        result = self.salt(host, "state.apply", *named, *tested, *words, "--out=json", env=env, inside=inside)
        return self.read(result, host)

    @staticmethod
    def read(result: Result, host: str = "mail") -> Run:
        """Return a result of state.apply with ``--out=json`` as a run."""
        import mailhost_report

        returned = result.data().get(host)
        marks = {row["id"]: row["mark"] for row in mailhost_report.rows(returned)}
        return Run(result, result.states(host), marks)

    def tracker(self, host: str = "mail") -> dict[str, tuple[str, str]]:
        """Return the tracker as a program gets it: mark and evidence by task id."""
        result = self.salt(host, "state.apply", "status", "--out=mailhost_json")
        assert result.returncode == 0, result
        return {row["id"]: (row["mark"], row["evidence"]) for row in result.data()[host]}

    # --- the end

    def disconnect(self) -> None:
        """End the kept connections; nothing can be run from the copy after that."""
        for socket in self._runtime.glob("mailhost-*/*"):
            leave = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "host"]
            subprocess.run(leave, capture_output=True, check=False)
        shutil.rmtree(self._runtime, ignore_errors=True)

    def close(self) -> None:
        """End the kept connections and remove the copy; doing it twice is fine."""
        self.disconnect()
        if self._shared_thin and self._thin.exists() and not self._shared_thin.exists():
            shutil.copytree(self._thin, self._shared_thin)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return the checkout itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that begin a line."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position] == "{" and (position == 0 or text[position - 1] == "\n"):
            try:
                found, position = decoder.raw_decode(text, position)
            except ValueError:
                position += 1
                continue
            yield found
        else:
            position = text.find("\n{", position) + 1 or len(text)
