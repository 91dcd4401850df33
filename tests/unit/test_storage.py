"""Directories of mail and databases, their owners, and the tool for quotas."""

import importlib.util
from importlib.machinery import SourceFileLoader
from typing import Any
from unittest import mock

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_storage
from compiled import ROOT

loader = SourceFileLoader("mailhost_quota", str(ROOT / "salt/storage/files/mailhost-quota"))
spec = importlib.util.spec_from_loader("mailhost_quota", loader)
assert spec
quota: Any = importlib.util.module_from_spec(spec)
loader.exec_module(quota)


@pytest.mark.parametrize(
    ("image", "uid"),
    [
        ("postgres:17-trixie", 999),
        ("postgres:17-alpine", 70),
        ("postgres:17.7-alpine3.22@sha256:" + "0" * 64, 70),
        ("registry.example.org:5000/alpine/postgres:17", 999),
    ],
)
def test_the_image_decides_about_the_owner(image: str, uid: int) -> None:
    assert mailhost_storage.image_uid(image) == uid


@pytest.mark.parametrize("kind", ["file", "link", "special file"])
def test_what_is_in_the_way_stays(kind: str) -> None:
    with pytest.raises(CommandExecutionError, match=f"/a: is a {kind}, not a directory"):
        mailhost_storage.plan_directories({"/a": {"kind": kind}})


def test_only_missing_directories_are_made() -> None:
    found = {"/a": {"kind": "directory"}, "/a/b": {"kind": None}}
    assert mailhost_storage.plan_directories(found) == {"/a/b": {"old": None, "new": "directory"}}


def user(uid: int) -> dict[str, int]:
    return {"uid": uid, "gid": uid}


@pytest.mark.parametrize(
    ("users", "groups", "words"),
    [
        ({}, {"systemd-journal": {"gid": 999}}, ""),
        ({"vmail": user(5000)}, {"vmail": {"gid": 5000}}, ""),
        ({"vmail": user(1001)}, {}, "vmail is there with uid 1001"),
        ({}, {"vmail": {"gid": 1001}}, "group vmail is there with gid 1001"),
        ({"eve": user(5000)}, {}, "uid 5000 is eve's"),
        ({}, {"eve": {"gid": 5000}}, "gid 5000 is group eve's"),
        ({"eve": user(999)}, {}, "PostgreSQL has uid 999 in it, which is eve's here"),
    ],
)
def test_ids_of_others_are_named(users: Any, groups: Any, words: str) -> None:
    said = mailhost_storage.clashes(users, groups, 5000, 999)
    assert len(said) == bool(words)
    assert words in "".join(said)


def test_a_database_is_not_given_away() -> None:
    wanted = {mailhost_storage.DATA: "999:0 0700"}
    there = {"access": "70:0 0700", "empty": False}
    with pytest.raises(CommandExecutionError, match="a database of uid 70 is in it"):
        mailhost_storage.plan_owners(wanted, {mailhost_storage.DATA: there})
    changes = {mailhost_storage.DATA: {"old": "70:0 0700", "new": "999:0 0700"}}
    assert mailhost_storage.plan_owners(wanted, {mailhost_storage.DATA: {**there, "empty": True}}) == changes
    other = {"access": "999:999 0750", "empty": False}
    assert mailhost_storage.plan_owners(wanted, {mailhost_storage.DATA: other})


def test_no_directory_is_open_to_everybody_but_those_of_projects() -> None:
    for path, access in mailhost_storage.owners(5000, 999).items():
        assert access.endswith(("0750", "0700")) or path.startswith(mailhost_storage.PROJECTS)


# --- mailhost-quota

ROOT_FS = {"target": "/", "source": "/dev/vda1", "fstype": "ext4", "options": "rw,relatime"}
MAIL_FS = {"target": "/var/mail", "source": "/dev/vdb", "fstype": "ext4", "options": "rw"}
FSTAB = "# comment\nUUID=1 / ext4 errors=remount-ro 0 1\nUUID=2\t/boot\text4\tdefaults\t0\t2\n"


def test_the_file_system_of_mail() -> None:
    assert quota.mount_of("/var/mail/vmail", [ROOT_FS, MAIL_FS]) == MAIL_FS
    assert quota.mount_of("/var/mailbox", [ROOT_FS, MAIL_FS]) == ROOT_FS


def test_the_options_are_added_to_one_line_of_fstab() -> None:
    after = quota.fstab_with(FSTAB, "/")
    assert "UUID=1\t/\text4\terrors=remount-ro,usrjquota=aquota.user,jqfmt=vfsv1\t0\t1\n" in after
    assert after.count("usrjquota") == 1
    assert quota.fstab_with(after, "/") == after
    with pytest.raises(quota.Refused, match="has no line for /var/mail"):
        quota.fstab_with(FSTAB, "/var/mail")


@pytest.mark.parametrize(
    ("change", "kernel", "words"),
    [
        ({}, True, ""),
        ({}, False, "this kernel has no disk quotas"),
        ({"fstype": "xfs"}, True, "put uquota into /etc/fstab and reboot"),
        ({"fstype": "btrfs"}, True, "only ext4 is supported"),
    ],
)
def test_where_there_are_no_quotas(change: dict[str, str], kernel: bool, words: str) -> None:
    said = quota.refusal({**ROOT_FS, **change}, kernel)
    assert (words in said) if words else said is None


def test_the_steps() -> None:
    new = quota.steps(ROOT_FS, False, False, False, (0, 0), (1, 2))
    assert [step[0] for step in new] == ["fstab", "mount", "quotacheck", "quotaon", "setquota"]
    assert "-cum" in new[2]
    mounted = {**ROOT_FS, "options": "rw,usrjquota=aquota.user,jqfmt=vfsv1"}
    again = quota.steps(mounted, True, False, True, (1, 2), (1, 2))
    assert [step[0] for step in again] == ["quotacheck", "quotaon"]
    assert "-um" in again[0], "the limits that are there stay"
    assert quota.steps(mounted, True, True, True, (1, 2), (1, 2)) == []
    assert [step[0] for step in quota.steps(mounted, True, True, True, (1, 2), (1, 3))] == ["setquota"]
    assert quota.steps(mounted, True, True, True, (1, 2), None) == []
    assert quota.steps(mounted, False, True, True, (1, 2), None) == [["fstab", "/"]], "the next boot would be without"


def test_an_account_without_files_has_limits_too(monkeypatch: Any) -> None:
    """repquota leaves it out unless it is asked for everybody, and a limit that is not seen is set at every run."""
    said = {True: "User,…\n#0,ok,ok,770,0,0,0,18,0,0,0\n#5000,ok,ok,0,1,2,0,0,0,0,0\n", False: "User,…\n"}
    monkeypatch.setattr(quota, "run", lambda *argv: said["-v" in argv])
    host = object.__new__(quota.Host)
    host.mount = ROOT_FS
    assert host.limits("5000") == (1, 2)
    assert host.limits("6000") == (0, 0)


def test_quotas_may_be_on_before_the_account_is_there(monkeypatch: Any, tmp_path: Any, capsys: Any) -> None:
    """Only limits are somebody's."""
    host = mock.create_autospec(quota.Host, instance=True, mount=ROOT_FS)
    host.on.return_value = host.counted.return_value = False
    monkeypatch.setattr(quota, "Host", lambda: host)
    monkeypatch.setattr(quota, "FSTAB", tmp_path / "fstab")
    quota.FSTAB.write_text(FSTAB)
    assert quota.main(["enable", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "quotaon -u /"
    assert quota.main(["on", "--user", "no-such", "--soft", "1", "--hard", "2", "--dry-run"]) == 2
    assert capsys.readouterr().err == "mailhost-quota: there is no account no-such\n"


def test_a_dry_run_says_the_commands(capsys: Any) -> None:
    quota.carry_out(quota.steps(ROOT_FS, False, False, False, (0, 0), (1, 2)), "5000", True)
    assert capsys.readouterr().out.splitlines()[-1] == "setquota -u 5000 1 2 0 0 /"
