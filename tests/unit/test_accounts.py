"""What differs between the account that is wanted and the one that is there."""

import errno
import json
import os
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import compiled
import mailhost_forecast
from mailhost_accounts import ageing, owned_mounts, plan_present, with_moves

WANTED = {
    "name": "ada",
    "uid": 1000,
    "shell": "/bin/bash",
    "home": "/home/ada",
    "groups": ["sudo"],
    "password_hash": None,
}
THERE = {
    "uid": 1000,
    "gid": 1000,
    "shell": "/bin/bash",
    "home": "/home/ada",
    "home_exists": True,
    "home_uid": 1000,
    "locked": True,
    "password_hash": "!",
}
GROUPS = {"sudo": {"gid": 27, "members": ["ada"]}, "ada": {"gid": 1000, "members": []}}


def plan(user: dict[str, Any], groups: dict[str, Any] | None = None, **wanted: Any) -> dict[str, Any]:
    return plan_present({**WANTED, **wanted}, {"ada": {**THERE, **user}}, {**GROUPS, **(groups or {})}, {})


def test_an_account_as_wanted_is_left_alone() -> None:
    assert plan({}) == {}


def test_an_absent_one_is_made() -> None:
    assert set(plan_present(WANTED, {}, {"sudo": {"gid": 27, "members": []}}, {})) == {"user"}


@pytest.mark.parametrize(
    ("user", "groups", "changes"),
    [
        ({"shell": "/bin/sh"}, {}, {"shell"}),
        ({"uid": 1001}, {}, {"uid"}),
        ({"uid": 1001, "home_uid": 1001}, {}, {"uid"}),
        ({"home_uid": 1001}, {}, {"owner"}),
        ({"home_exists": False, "home_uid": None}, {}, {"home"}),
        ({"uid": 1001, "gid": 1001}, {"ada": {"gid": 1001, "members": []}}, {"uid", "group"}),
        ({"gid": 100}, {}, {"gid"}),
        ({"home_exists": False}, {}, {"home"}),
        ({"home": "/srv/ada"}, {}, {"home"}),
        ({"locked": False, "password_hash": "$y$x"}, {}, {"password"}),
        ({}, {"sudo": {"gid": 27, "members": []}}, {"groups"}),
    ],
)
def test_each_attribute_is_named(user: dict[str, Any], groups: dict[str, Any], changes: set[str]) -> None:
    assert set(plan(user, groups)) == changes


def test_a_declared_password_is_set_and_never_shown() -> None:
    changes = plan({}, password_hash="$y$j9T$secret")
    assert changes == {"password": {"old": "locked", "new": "as declared"}}
    assert plan({"locked": False, "password_hash": "$y$j9T$secret"}, password_hash="$y$j9T$secret") == {}


@pytest.mark.parametrize(
    ("users", "groups", "sentence"),
    [
        ({"eve": {**THERE}}, GROUPS, "uid 1000, wanted for ada, belongs to eve: remove or move that account"),
        ({}, {**GROUPS, "eve": {"gid": 1000, "members": []}}, "gid 1000, wanted for ada, belongs to group eve: remove or move it"),
        ({}, {}, "group sudo, wanted for ada, does not exist"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_is_not_taken(users: dict[str, Any], groups: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandExecutionError, match="^" + sentence.replace("(", r"\(")):
        plan_present(WANTED, users, groups, {})


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_shell_that_nobody_can_run_is_refused(tmp_path: pathlib.Path, mode: int | None, test: bool) -> None:
    shell = tmp_path / "zsh"
    if mode:
        shell.touch(mode)
    salt = {"mailhost_accounts.refuse_shell": compiled.loaded("_modules/mailhost_accounts.py").refuse_shell}
    state = compiled.loaded("_states/mailhost_user.py", __salt__=salt, __opts__={"test": test}, __context__={})
    result = state.present("ada", 1000, str(shell), ["sudo"], None)
    words = f"access.admin.shell: {shell} is no executable file on the host: install it there, or declare another shell"
    assert (result["result"], result["comment"]) == (False, words)


def test_a_shell_that_runs_is_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bash").touch(0o755)
    (tmp_path / "link").symlink_to("bash")
    compiled.loaded("_modules/mailhost_accounts.py").refuse_shell(str(tmp_path / "link"))


MOVES = {"user": [1005], "group": [1005]}


def test_files_that_have_not_followed_are_a_change() -> None:
    files = {"old": "user id 1005, group id 1005", "new": "id 1000"}
    assert plan_present(WANTED, {"ada": {**THERE, "home_uid": 1005}}, GROUPS, MOVES) == {"files": files}
    assert set(plan_present(WANTED, {}, {"sudo": {"gid": 27, "members": []}}, MOVES)) == {"user", "files"}
    assert plan_present(WANTED, {"ada": THERE}, GROUPS, {"user": [], "group": []}) == {}


def test_files_of_an_id_that_somebody_else_has_now_are_not_taken() -> None:
    eve = {**THERE, "uid": 1005}
    with pytest.raises(CommandExecutionError, match=r"^user id 1005, whose .* belongs to eve now: .*uid-move\.json$"):
        plan_present(WANTED, {"ada": THERE, "eve": eve}, GROUPS, MOVES)


def test_what_is_to_follow_adds_up() -> None:
    changes = {"uid": {"old": 1007, "new": 1000}, "group": {"old": None, "new": 1000}}
    assert with_moves({"user": [1005, 1000], "group": [1005]}, changes, 1000) == {"user": [1005, 1007], "group": [1005]}


def test_blanks_in_mount_points_are_read() -> None:
    info = (
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "23 22 254:2 / /srv/old\\040mail\\134x rw shared:2 master:1 - xfs /dev/vdb rw\n"
        "24 22 0:5 / /proc rw - proc proc rw\n"
        "25 22 0:6 / /mnt/stick rw - vfat /dev/sda1 rw\n"
    )
    assert owned_mounts(info) == ["/", "/srv/old mail\\x"]


class Files:
    """The module, with a directory in the place of the host's file systems and a record of who would own what."""

    def __init__(self, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.note = directory / "root", directory / "state" / "uid-move.json"
        self.owners: dict[str, tuple[int, int]] = {}
        self.broken: set[str] = set()
        self.programs: list[list[str]] = []
        salt = {
            "mailhost_run.program": self.programs.append,
            "mailhost_file.replace": lambda path, text, mode: pathlib.Path(path).write_text(text),
            "mailhost_file.remove": os.unlink,
        }
        self.module = compiled.loaded("_modules/mailhost_accounts.py", __salt__=salt, MOVES=self.note)
        monkeypatch.setattr(
            "mailhost_accounts.owned_mounts",
            lambda _: [str(self.root), str(directory / "gone"), str(directory / "file")],
        )
        (directory / "file").touch()
        (self.root / "sub").mkdir(parents=True)
        for name in ("a", "sub/b", "sub/c"):
            (self.root / name).touch()
        (self.root / "link").symlink_to("sub")
        self.look = os.lstat
        monkeypatch.setattr(os, "lstat", self.lstat)
        monkeypatch.setattr(os, "lchown", self.lchown)

    def lstat(self, path: str) -> Any:
        status = self.look(path)
        uid, gid = self.owners.get(str(path), (1005, 1005))
        return SimpleNamespace(st_uid=uid, st_gid=gid, st_mode=status.st_mode, st_dev=status.st_dev)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        if os.path.basename(path) in self.broken:
            raise OSError(errno.EROFS, "Read-only file system", path)
        self.owners[path] = (uid, gid)

    def change(self, changes: dict[str, Any]) -> None:
        self.module.change("ada", changes, WANTED)

    @property
    def moved(self) -> set[str]:
        return {os.path.relpath(path, self.root) for path, ids in self.owners.items() if ids == (1000, 1000)}


ALL = {"../file", ".", "a", "sub", "sub/b", "sub/c", "link"}
MOVED = {"uid": {"old": 1005, "new": 1000}, "group": {"old": 1005, "new": 1000}}


def test_all_files_follow_an_id(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Files(tmp_path, monkeypatch)
    host.change(MOVED)
    assert host.moved == ALL
    assert not host.note.exists()
    assert host.module.moves("ada") == {}


def test_a_walk_that_is_cut_short_is_gone_on_with(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Files(tmp_path, monkeypatch)
    host.broken = {"a", "b"}
    with pytest.raises(
        CommandExecutionError, match=r"^2 paths with .* to id 1000, the first: .*: read-only file system;"
    ):
        host.change(MOVED)
    assert host.moved == ALL - {"a", "sub/b"}
    assert json.loads(host.note.read_text()) == {"ada": MOVES}
    assert host.module.moves("ada") == MOVES
    host.broken = set()
    host.change({"files": {}})
    assert host.moved == ALL
    assert not host.note.exists()


def test_the_note_is_there_before_the_id_changes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Files(tmp_path, monkeypatch)

    def cut(argv: list[str]) -> None:
        raise CommandExecutionError(f"{argv[0]}: the power is gone")

    host.module.__salt__["mailhost_run.program"] = cut
    with pytest.raises(CommandExecutionError, match="the power is gone"):
        host.change(MOVED)
    assert host.module.moves("ada") == MOVES


SHADOW = """\
ada:$y$x:20000:1:365:7:45::
eve:!:20000:1:365:7:::
linuxuser:!:20000:1:365:7:45::
vmail:!:20000::::::
"""


@pytest.mark.parametrize(
    ("forecast", "accounts"),
    [
        ({}, {"eve", "linuxuser"}),
        ({"linuxuser": None}, {"eve"}),
        ({"ada": {"password_hash": None}, "linuxuser": None}, {"ada", "eve"}),
        ({"eve": {"password_hash": "$y$z"}}, {"linuxuser"}),
    ],
)
def test_logins_that_end_are_those_of_accounts_as_the_run_leaves_them(
    forecast: dict[str, Any], accounts: set[str]
) -> None:
    salt = {
        "mailhost_accounts.read": lambda: {"users": {name: {} for name in ("ada", "eve", "linuxuser", "vmail")}},
        "mailhost_accounts.ageing": lambda passwords: ageing(SHADOW, passwords),
    }
    context = {mailhost_forecast.KEY: {"users": forecast}}
    state = compiled.loaded("_states/mailhost_user.py", __salt__=salt, __opts__={"test": True}, __context__=context)
    assert set(state.ageless("x")["changes"]) == accounts
