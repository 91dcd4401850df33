"""Docker: its packages, its source, its daemon's settings, and what a running one does not do."""

from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_docker

DEBIAN: dict[str, Any] = {"repository": None, "repository_key": None}
UPSTREAM = {
    "repository": "https://packages.example.org/debian",
    "repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n",
}


def test_the_source_decides_about_the_packages() -> None:
    assert "docker.io" in mailhost_docker.packages(DEBIAN)
    assert "docker-ce" in mailhost_docker.packages(UPSTREAM)


@pytest.mark.parametrize(
    ("source", "installed", "refused"),
    [
        (DEBIAN, {}, False),
        (DEBIAN, {"docker.io": "26"}, False),
        (DEBIAN, {"docker-ce": "28"}, True),
        (UPSTREAM, {"docker.io": "26"}, True),
        (UPSTREAM, {"docker-ce": "28"}, False),
    ],
)
def test_one_engine_does_not_take_the_other_s_place(source: Any, installed: dict[str, str], refused: bool) -> None:
    said = mailhost_docker.other_engine(source, installed)
    assert bool(said) == refused
    if said:
        assert said.startswith("docker.repository: ")
        assert next(iter(installed)) in said


def test_the_key_stands_in_the_source() -> None:
    assert mailhost_docker.sources(UPSTREAM, "trixie") == (
        "# Managed by Salt.\nTypes: deb\nURIs: https://packages.example.org/debian\nSuites: trixie\n"
        "Components: stable\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"a": 1,}'])
def test_a_file_that_is_no_json_object_is_not_replaced(text: str) -> None:
    with pytest.raises(CommandExecutionError, match=r"/etc/docker/daemon.json: is no"):
        mailhost_docker.parse(text)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_empty_file_says_nothing(text: str | None) -> None:
    assert mailhost_docker.parse(text) == {}


def test_what_others_wrote_stays() -> None:
    found = {"debug": True, "icc": True, "log-opts": {"tag": "x", "max-file": "2"}}
    settings = mailhost_docker.merged(found)
    assert settings["debug"] is True
    assert settings["icc"] is False
    assert settings["log-opts"] == {"tag": "x", "max-file": "5", "max-size": "10m"}
    assert set(mailhost_docker.plan(found)) == set(mailhost_docker.SETTINGS)
    assert mailhost_docker.plan(settings) == {}
    assert mailhost_docker.parse(mailhost_docker.text(settings)) == settings


def test_a_setting_of_another_kind_is_replaced_whole() -> None:
    assert mailhost_docker.merged({"log-opts": "none"})["log-opts"] == {"max-size": "10m", "max-file": "5"}


def test_options_of_another_log_driver_go_with_it() -> None:
    theirs = {"syslog-address": "udp://192.0.2.1:514", "max-file": "2"}
    found = {**mailhost_docker.SETTINGS, "log-driver": "syslog", "log-opts": theirs}
    assert mailhost_docker.merged(found) == mailhost_docker.SETTINGS
    assert mailhost_docker.plan(found) == {
        "log-driver": {"old": "syslog", "new": "json-file"},
        "log-opts": {"old": theirs, "new": {"max-size": "10m", "max-file": "5"}},
    }
    same = {"log-driver": "json-file", "log-opts": {"tag": "x"}}
    assert mailhost_docker.merged(same)["log-opts"] == {"tag": "x", "max-size": "10m", "max-file": "5"}


def test_the_daemon_s_own_command_line() -> None:
    shown = (
        "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock "
        "$DOCKER_OPTS ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
    )
    assert mailhost_docker.flags(shown) == ["-H", "fd://", "--containerd=/run/containerd/containerd.sock"]
    assert mailhost_docker.flags("") == []


@pytest.mark.parametrize(
    ("wanted", "members", "changes"),
    [
        (False, None, {}),
        (True, None, {"ada": {"old": False, "new": True}}),
        (True, ["ada"], {}),
        (False, ["ada", "eve"], {"ada": {"old": True, "new": False}}),
        (False, ["eve"], {}),
    ],
)
def test_only_the_admin_is_taken_out_of_the_group(wanted: bool, members: Any, changes: Any) -> None:
    assert mailhost_docker.plan_group("ada", wanted, members) == changes


GOOD = {"LiveRestoreEnabled": True, "SecurityOptions": ["name=seccomp,profile=builtin", "name=no-new-privileges"]}


@pytest.mark.parametrize(
    ("found", "file", "words"),
    [
        (GOOD, mailhost_docker.SETTINGS, []),
        (GOOD, {**mailhost_docker.SETTINGS, "icc": True}, ["/etc/docker/daemon.json: icc is not as declared"]),
        ({**GOOD, "LiveRestoreEnabled": False}, mailhost_docker.SETTINGS, ["containers would stop with the daemon"]),
        ({**GOOD, "SecurityOptions": []}, mailhost_docker.SETTINGS, ["containers may get new privileges"]),
    ],
)
def test_what_the_running_daemon_does_not_do(found: Any, file: Any, words: list[str]) -> None:
    assert mailhost_docker.judge(found, file) == words


def test_a_bridge_in_use_comes_right_later() -> None:
    options = {mailhost_docker.BINDING: "0.0.0.0", "com.docker.network.bridge.enable_icc": "true"}
    wrong, besides = mailhost_docker.judge_bridge({"Options": options, "Containers": {}})
    assert len(wrong) == 2
    assert not besides
    wrong, besides = mailhost_docker.judge_bridge({"Options": options, "Containers": {"1": {"Name": "old"}}})
    assert not wrong
    assert "until old is stopped" in besides[0]
    options = {mailhost_docker.BINDING: "127.0.0.1", "com.docker.network.bridge.enable_icc": "false"}
    assert mailhost_docker.judge_bridge({"Options": options, "Containers": {"1": {"Name": "x"}}}) == ([], [])
