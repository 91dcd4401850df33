#!/usr/bin/python3
"""Commit-confirm on the host: snapshot, dead man's timer, confirmation by a new login, revert.

The design is that of ``commit confirmed`` (RFC 6241, section 8.4): a change that could cut the operator off goes back
by itself unless somebody who came in by the changed way says that it works. This file is both the library of the
execution module and, copied to /usr/local/sbin/mailhost-guard, the program that the timer runs: it imports nothing but
Python's own library, and it works with no Salt on the host.
"""

import argparse
import fcntl
import functools
import json
import os
import pathlib
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

PROGRAM = pathlib.Path("/usr/local/sbin/mailhost-guard")
HOME = pathlib.Path("/var/lib/mailhost/guard")
UNITS = pathlib.Path("/etc/systemd/system")
NAME = "mailhost-guard"

SERVICE = f"""\
[Unit]
Description=Put access back as it was: a change to it was not confirmed
DefaultDependencies=no
After=local-fs.target

[Service]
Type=oneshot
ExecStart={PROGRAM} revert
"""

# OnActiveSec alone: OnBootSec in the past would fire at once. Enabled on disk, so that it counts anew after a reboot in
# between; a transient unit of systemd-run(1) would be lost there.
TIMER = """\
[Unit]
Description=Put access back as it was unless the change is confirmed in time

[Timer]
OnActiveSec={seconds}
AccuracySec=1

[Install]
WantedBy=timers.target
"""


class GuardError(Exception):
    """Something about the guard cannot be done; the message is for the operator."""


def armed() -> dict[str, Any] | None:
    """Return what is armed: what, paths, units, login, token, changed (seconds since boot or None), until; or None."""
    return _read("armed.json")  # type: ignore[no-any-return]


def reverted() -> dict[str, Any] | None:
    """Return what went back by itself and has not been told to anybody yet: what and when; or None."""
    return _read("reverted.json")  # type: ignore[no-any-return]


def forget_reverted() -> None:
    """Forget what went back: the operator has been told."""
    (HOME / "reverted.json").unlink(missing_ok=True)


def _alone(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function wait for another one's end, in whichever process that is.

    Who confirms says so first and tidies up after: the run would otherwise arm its next change in the middle of that,
    and lose its snapshot and its timer.
    """

    @functools.wraps(function)
    def alone(*arguments: _P.args, **named: _P.kwargs) -> _R:
        HOME.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(HOME.with_name(f"{HOME.name}.lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return function(*arguments, **named)

    return alone


@_alone
def arm(what: str, paths: Iterable[str], units: Iterable[str], login: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Take a snapshot and start the timer; return what ``armed()`` then returns.

    what
        The change, as a phrase for people.
    paths
        Files and directories that go back, absent ones to being absent.
    units
        systemd units that go back to running or stopped, enabled or not. sshd should stand first.
    login
        The way by which a new login confirms: user, addresses, port.
    seconds
        How long the timer waits.

    Raises GuardError when something is armed already (its snapshot must not be replaced by one of the unproven state),
    or when the timer does not run: nothing may be changed then.
    """
    if found := armed():
        raise GuardError(f"{found['what']}: not confirmed yet, {goes_back(found)}")
    shutil.rmtree(HOME, ignore_errors=True)
    snapshot = HOME / "snapshot"
    snapshot.mkdir(mode=0o700, parents=True)
    HOME.chmod(0o700)
    for path in paths:
        if os.path.lexists(path):
            _copy(path, snapshot)
    entry = {
        "what": what,
        "paths": list(paths),
        "units": {unit: {"active": _active(unit), "enabled": _is("is-enabled", unit)} for unit in units},
        "login": login,
        "token": secrets.token_hex(8),
        "changed": None,
        "seconds": seconds,
        "until": time.time() + seconds,
    }
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(__file__, PROGRAM.with_suffix(".new"))
    PROGRAM.with_suffix(".new").chmod(0o755)
    PROGRAM.with_suffix(".new").replace(PROGRAM)
    (UNITS / f"{NAME}.service").write_text(SERVICE, encoding="utf-8")
    (UNITS / f"{NAME}.timer").write_text(TIMER.format(seconds=seconds), encoding="utf-8")
    # Who finds armed.json after a power cut must find all of the snapshot, and names reach a disk before contents.
    os.sync()
    _write("armed.json", entry)
    os.sync()  # a power cut from here on must find the timer on the disk
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", "--quiet", f"{NAME}.timer")
    _run("systemctl", "restart", f"{NAME}.timer")
    os.sync()
    if not _is("is-active", f"{NAME}.timer"):
        _disarm()
        raise GuardError(f"{what}: not done, the timer that would take it back does not start")
    return entry


@_alone
def changed(token: str) -> None:
    """Note that the change has been made: only a login that began after this moment confirms it.

    token
        What ``arm`` returned.

    Raises GuardError when that change has gone back already.
    """
    entry = armed()
    if entry is None or entry["token"] != token:
        raise GuardError("it went back before it was made")
    _write("armed.json", {**entry, "changed": _now(), "boot": _boot()})


@_alone
def confirm(token: str | None) -> str:
    """Disarm, when this process belongs to a login by the changed way that began after the change; return what it was.

    token
        What ``arm`` returned, or None when the change that is armed is meant whatever it is.

    Raises GuardError when nothing is armed, or when this login proves nothing.
    """
    entry = armed()
    if entry is None:
        raise GuardError("nothing waits to be confirmed")
    if token not in (None, entry["token"]):
        raise GuardError("another change than this one waits to be confirmed")
    said = doubt(entry, session())
    if said:
        raise GuardError(f"{entry['what']}: not confirmed: {said}; {goes_back(entry)}")
    _disarm()
    return str(entry["what"])


def doubt(entry: dict[str, Any], login: dict[str, Any] | None) -> str:
    """Return why a login does not confirm a change, "" when it does. Pure.

    entry
        What is armed.
    login
        A session as ``session()`` describes it, or None for none.
    """
    wanted = entry["login"]
    if login is None:
        return "this is no login over ssh"
    if entry["changed"] is None:
        return "the change has not been made yet"
    if entry.get("boot") == login["boot"] and login["began"] < entry["changed"]:
        return "this login began before the change, so it proves nothing"
    if login["user"] != wanted["user"]:
        return f"this login is {login['user']}'s, not {wanted['user']}'s"
    if login["address"] not in wanted["addresses"] or login["port"] != wanted["port"]:
        return f"this login came in at {login['address']} port {login['port']}, not by the new way"
    return ""


def session() -> dict[str, Any] | None:
    """Return the ssh login this process belongs to: user, address and port of this host, began (seconds since boot).

    sshd's own process says who is logged in; the address and port are in the environment it gave to its child, which
    only root and the user can read. The user could forge that one: it is the user who confirms.
    """
    child = pid = os.getpid()
    while pid > 1:
        process = pathlib.Path(f"/proc/{pid}")
        title = process.joinpath("cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        found = re.match(r"sshd(?:-session)?: ([a-z_][a-z0-9_-]*)(?:@\S+)?$", title)
        if found and process.stat().st_uid == pwd.getpwnam(found.group(1)).pw_uid:
            return _session(found.group(1), pid, child)
        parent = re.search(r"^PPid:\t(\d+)", process.joinpath("status").read_text(), re.MULTILINE)
        child, pid = pid, int(parent.group(1)) if parent else 0
    return None


def _session(user: str, pid: int, child: int) -> dict[str, Any] | None:
    """Return the login that the sshd process ``pid`` serves, from the environment of its child."""
    variables = pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    connection = next((word.decode() for word in variables if word.startswith(b"SSH_CONNECTION=")), "")
    words = connection.removeprefix("SSH_CONNECTION=").split()
    if len(words) != 4:
        return None
    # proc_pid_stat(5): the 22nd field, in clock ticks since boot; the second one may hold spaces.
    ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    began = int(ticks) / os.sysconf("SC_CLK_TCK")
    address = words[2].removeprefix("::ffff:")
    return {"user": user, "address": address, "port": int(words[3]), "began": began, "boot": _boot()}


@_alone
def revert() -> str:
    """Put everything back as the snapshot has it, every step whatever the others do; return what it was.

    What was changed is kept in /var/lib/mailhost/guard/failed; the snapshot is kept when a step fails. Raises
    GuardError when nothing is armed, or when there is no snapshot.
    """
    entry = armed()
    if entry is None:
        raise GuardError("nothing is armed")
    if not (HOME / "snapshot").is_dir():
        raise GuardError(
            f"{entry['what']}: {HOME}/snapshot is gone, so nothing can be put back; see that people can log in, and "
            f"remove {HOME}/armed.json"
        )
    failed = HOME / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    steps: list[Callable[[], object]] = []
    for path in entry["paths"]:
        steps += [functools.partial(_keep, path, failed), functools.partial(_put_back, path)]
    steps.append(functools.partial(_run, "systemctl", "daemon-reload"))
    steps += [functools.partial(_unit_back, unit, was) for unit, was in entry["units"].items()]
    said = []
    for step in steps:
        try:
            step()
        except (OSError, GuardError) as error:
            said.append(str(error))
    kept = HOME.with_name(f"{HOME.name}.{time.strftime('%Y%m%dT%H%M%S')}")
    if said:
        said.append(f"what was there before is in {kept}")
    os.sync()  # what went back must be on the disk before the snapshot is let go
    _write("reverted.json", {"what": entry["what"], "when": time.time(), "trouble": said})
    if said:
        (HOME / "armed.json").unlink()
        (HOME / "snapshot").rename(kept)
    _disarm()
    return f"{entry['what']}: was not confirmed, everything is as it was" + "".join(f"; {words}" for words in said)


def _keep(path: str, failed: pathlib.Path) -> None:
    """Keep what is there now of a path."""
    if os.path.lexists(path):
        _copy(path, failed)


def _put_back(path: str) -> None:
    """Let one path be as in the snapshot."""
    kept, there = HOME / "snapshot" / path.lstrip("/"), pathlib.Path(path)
    _remove_new(there, kept)
    if os.path.lexists(kept):
        # In place: a directory may be a mount point, and what reads it must never find it gone.
        there.parent.mkdir(parents=True, exist_ok=True)
        _run("cp", "-a", "--remove-destination", "--no-target-directory", str(kept), path)


def _copy(path: str, below: pathlib.Path) -> None:
    """Copy a path with all its attributes to its place below a directory."""
    copy = below / path.lstrip("/")
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _run("cp", "-a", "--no-target-directory", path, str(copy))


def _remove_new(there: pathlib.Path, kept: pathlib.Path) -> None:
    """Remove what is not in the snapshot, or is there as something else."""
    if not os.path.lexists(there):
        return
    if not there.is_dir() or there.is_symlink():
        if not os.path.lexists(kept) or kept.is_dir():
            there.unlink()
    elif not kept.is_dir() or kept.is_symlink():
        shutil.rmtree(there)
    else:
        for name in os.listdir(there):
            _remove_new(there / name, kept / name)


def _unit_back(unit: str, was: dict[str, bool]) -> None:
    """Let one unit be enabled and running as it was; a running one is restarted, so that it reads its files."""
    if unit == "ssh.service":
        # sshd -t, which its unit runs first, refuses without this directory when sshd is down.
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    if _is("is-enabled", unit) != was["enabled"]:
        _run("systemctl", "enable" if was["enabled"] else "disable", "--quiet", unit)
    try:
        if was["active"]:
            subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
            _run("systemctl", "restart", unit)
        else:
            _run("systemctl", "stop", unit)
    finally:
        if unit == "ufw.service":
            _ufw_back(was["active"])


def _ufw_back(was_active: bool) -> None:
    """Let the kernel have ufw's rules as its files say, which the start and stop of its unit do not always do.

    Rules that do not load must not stay half: without ufw everybody gets in.
    """
    conf = pathlib.Path("/etc/ufw/ufw.conf")
    enabled = conf.exists() and "ENABLED=yes" in conf.read_text(encoding="utf-8")
    tries = [["ufw", "reload"]] if enabled and was_active else []
    # Enabled and stopped: its command would start it, or write into its file that it is not enabled.
    tries += [] if enabled and not was_active else [["ufw", "--force", "disable"]]
    for argv in [*tries, ["/usr/lib/ufw/ufw-init", "force-stop"]]:
        try:
            _run(*argv)
            return
        except GuardError as error:
            said = error
    raise said


def _disarm() -> None:
    """Stop the timer, and remove it and the snapshot. The service is not stopped: it may be what runs this."""
    (HOME / "armed.json").unlink(missing_ok=True)
    subprocess.run(["systemctl", "disable", "--quiet", "--now", f"{NAME}.timer"], capture_output=True, check=False)
    for suffix in ("timer", "service"):
        (UNITS / f"{NAME}.{suffix}").unlink(missing_ok=True)
    subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)
    shutil.rmtree(HOME / "snapshot", ignore_errors=True)
    os.sync()


def goes_back(entry: dict[str, Any]) -> str:
    """Return when a change goes back, and what keeps it, as a phrase."""
    login = entry["login"]
    way = " or ".join(f"{login['user']}@{address} port {login['port']}" for address in login["addresses"])
    when = time.strftime("%H:%M:%S %Z", time.localtime(entry["until"]))
    return f"it goes back at {when} (later after a reboot) unless a new login by {way} confirms it"


def _read(name: str) -> Any:
    try:
        return json.loads((HOME / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write(name: str, value: Any) -> None:
    """Write a file whole and safe on disk."""
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(HOME / f".{name}", "w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(HOME / f".{name}", HOME / name)


def _run(*argv: str) -> None:
    """Run a program; GuardError with its words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuardError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip() or done.returncode}")


def _is(question: str, unit: str) -> bool:
    """Ask systemctl is-active or is-enabled of a unit; one that does not exist is neither."""
    return subprocess.run(["systemctl", question, "--quiet", unit], capture_output=True, check=False).returncode == 0


def _active(unit: str) -> bool:
    """Return whether a unit runs; ufw, which people also switch by its own command, when the kernel has its rules."""
    if unit == "ufw.service":
        if not shutil.which("iptables"):
            return False
        chain = ["iptables", "-n", "-L", "ufw-user-input"]
        return subprocess.run(chain, capture_output=True, check=False).returncode == 0
    return _is("is-active", unit)


def moment(since_boot: float) -> float:
    """Return a moment given in seconds since boot, as a login's is, in seconds since 1970."""
    return time.time() - _now() + since_boot


def _now() -> float:
    """Return the seconds since boot, in the clock that process start times are in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def main() -> int:
    """Run the command line: status, confirm, revert."""
    parser = argparse.ArgumentParser(prog=NAME, description="Changes of access that go back unless they are confirmed.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="say what is armed")
    commands.add_parser("revert", help="put everything back as it was before the change, now")
    confirming = commands.add_parser("confirm", help="keep the change: from a new login by the changed way")
    confirming.add_argument("token", nargs="?", help="the change that is meant (default: the one that is armed)")
    arguments = parser.parse_args()
    if os.getuid() != 0:
        print(f"{NAME}: needs root: sudo {NAME} {arguments.command}", file=sys.stderr)
        return 1
    try:
        if arguments.command == "revert":
            print(revert())
        elif arguments.command == "confirm":
            print(f"{confirm(arguments.token)}: confirmed")
        else:
            entry = armed()
            print(f"{entry['what']}: {goes_back(entry)}" if entry else "nothing is armed")
    except GuardError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
