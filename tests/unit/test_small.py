"""Small pure pieces: files, packages, sshd's settings, requisites."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import compiled
import mailhost_file
import mailhost_forecast
import mailhost_pkg
import mailhost_sls
import mailhost_sshd

FILE = {"text": "a\n", "user": "root", "group": "root", "mode": "0644"}


@pytest.mark.parametrize(
    ("current", "changes"),
    [
        ({"kind": None}, {"file"}),
        ({"kind": "file", **FILE}, set()),
        ({"kind": "file", **FILE, "text": "b\n"}, {"content"}),
        ({"kind": "file", **FILE, "mode": "0600", "user": "ada"}, {"mode", "user"}),
    ],
)
def test_what_differs_in_a_file(current: dict[str, str | None], changes: set[str]) -> None:
    assert set(mailhost_file.plan("/f", FILE, current, secret=False)) == changes


def test_a_secret_file_is_not_shown() -> None:
    assert mailhost_file.plan("/f", FILE, {"kind": "file", **FILE, "text": "old"}, secret=True) == {
        "content": "(not shown)"
    }


@pytest.mark.parametrize("kind", ["link", "directory", "other"])
def test_what_is_no_file_is_not_replaced(kind: str) -> None:
    with pytest.raises(CommandExecutionError, match=f"/f: is a {kind}, not a file"):
        mailhost_file.plan("/f", FILE, {"kind": kind}, secret=False)


def test_what_apt_get_would_install() -> None:
    output = (
        "Reading package lists...\n"
        "Inst libfoo1 (1.2-3 Debian:13.1/stable [amd64])\n"
        "Inst sudo [1.9.16p2-2] (1.9.16p2-3 Debian-Security:13/stable-security [amd64])\n"
        "Conf libfoo1 (1.2-3 Debian:13.1/stable [amd64])\n"
    )
    assert mailhost_pkg.parse_simulation(output) == {
        "libfoo1": {"old": "", "new": "1.2-3"},
        "sudo": {"old": "1.9.16p2-2", "new": "1.9.16p2-3"},
    }


def test_nothing_is_installed_that_others_would_have_to_go_for() -> None:
    output = "Remv chrony [4.6.1-3]\nInst systemd-timesyncd (257.9-1~deb13u1 Debian:13.2/stable [amd64])\n"
    with pytest.raises(
        CommandExecutionError, match="systemd-timesyncd: not installed, apt would remove chrony for that"
    ):
        mailhost_pkg.planned(output)


def test_a_lock_of_apt_s_is_seen_and_not_taken(tmp_path: Path) -> None:
    module = compiled.loaded("_modules/mailhost_pkg.py")
    lock = tmp_path / "lock"
    assert not module._held(lock)
    # As apt does it, in another process: a process's own locks are not in its way.
    holder = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert module._held(lock)
        process.communicate("\n")
    assert not module._held(lock)


def test_a_forecast_lies_over_what_is_there() -> None:
    context: dict[str, object] = {}
    mailhost_forecast.note(context, "users", "eve", None)
    mailhost_forecast.note(context, "users", "ada", {"uid": 1000})
    assert mailhost_forecast.applied(context, "users", {"eve": {"uid": 1000}}) == {"ada": {"uid": 1000}}


def test_programs_run_unless_dpkg_was_interrupted() -> None:
    context: dict[str, object] = {}
    assert mailhost_forecast.runs(context)
    mailhost_forecast.note(context, "unfinished", "sudo", True)
    assert not mailhost_forecast.runs(context)


def test_a_task_keeps_requisites_that_its_states_have() -> None:
    states = {
        "one": mailhost_sls.state("m.f", value=1),
        "two": mailhost_sls.state("m.g", require=[{"file": "x"}]),
    }
    made = mailhost_sls.task("access.sudo", states)
    assert {"require": [{"file": "x"}, {"id": "one"}]} in made["two"]["m.g"]
    assert {"require": [{"id": "two"}]} in made["1.2.1 is proven"]["mailhost_task.proven"]


EFFECTIVE = "port 22\nport 2288\npubkeyauthentication yes\nauthorizedkeysfile .ssh/authorized_keys\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", ""),
        ("allowusers ada eve\n", ""),
        ("allowusers eve\n", "allowusers names eve only"),
        ("allowgroups sshusers\n", "allowgroups names sshusers only"),
        ("allowgroups sudo\n", ""),
        ("denyusers ada\n", "denyusers names ada"),
        ("denygroups sudo\n", "denygroups names sudo"),
        ("authenticationmethods publickey,password\n", "ask for publickey,password"),
        ("authenticationmethods publickey\n", ""),
    ],
)
def test_settings_that_would_lock_out(more: str, words: str) -> None:
    said = mailhost_sshd.lockout(mailhost_sshd.effective(EFFECTIVE + more), "ada", ["ada", "sudo"])
    assert words in said if words else said == ""


def test_a_setting_that_another_file_has_won_is_named() -> None:
    found = mailhost_sshd.effective("permitrootlogin yes\nport 22\nport 2288\n")
    assert mailhost_sshd.differing(found, [("PermitRootLogin", "no"), ("Port", "2288")]) == [
        "PermitRootLogin is yes, not no"
    ]


def test_ports_and_addresses_of_other_files_are_silenced() -> None:
    text = "Port 22\n#Port 23\n  port 24\nPortal x\nMatch User ada\n  PermitTTY no\n"
    silent = mailhost_sshd.without(text, "Port")
    assert silent == "#Port 22\n#Port 23\n  #port 24\nPortal x\nMatch User ada\n  PermitTTY no\n"
    assert mailhost_sshd.without(silent, "Port") == silent


def test_where_sshd_listens() -> None:
    found = mailhost_sshd.effective("listenaddress 0.0.0.0:22\nlistenaddress [::]:22\nlistenaddress 10.0.0.1:2288\n")
    assert mailhost_sshd.sockets(found) == {("0.0.0.0", 22), ("::", 22), ("10.0.0.1", 2288)}


@pytest.mark.parametrize("test", [True, False])
def test_modes_of_what_a_package_brings_are_the_same_in_both_runs(test: bool) -> None:
    """In the dry run the path is not there, in the real one it is, with the package's mode."""
    module = compiled.loaded("_states/mailhost_file.py")
    given: list[dict[str, str]] = []
    there = {"kind": "file", "user": "root", "group": "root", "mode": "0644"}
    salt = {
        "mailhost_file.look": lambda path, text: {"kind": None} if test or path == "/etc/none" else there,
        "mailhost_file.give_all": given.append,
    }
    context: dict[str, Any] = {}
    mailhost_forecast.bring(context, ["cron-daemon-common"])
    vars(module).update(__salt__=salt, __opts__={"test": test}, __context__=context)
    paths = dict.fromkeys(("/etc/crontab", "/etc/none"), "root:root 0600")
    packages = {"/etc/crontab": "cron-daemon-common", "/etc/none": "other"}
    made = module.access("x", paths, packages)["changes"]
    assert made == {"/etc/crontab": {"old": None, "new": "root:root 0600"}}
    assert given == ([] if test else [{"/etc/crontab": "root:root 0600"}])
