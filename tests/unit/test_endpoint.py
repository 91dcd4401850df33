"""The ways into a host and their order."""

from typing import Any

import pytest

import mailhost_endpoint
from mailhost_endpoint import Host, InvalidRoster, candidates, parse_host

PILLAR = {
    "access": {"admin": {"name": "ada"}},
    "ssh": {"port": 2288},
    "vpn": {"address": "10.100.0.25/24", "address6": "fd00:100::25/64"},
}


def ways(host: Host) -> list[str]:
    return [str(way) for way in candidates(host, PILLAR)]


def test_vpn_before_public_admin_before_root() -> None:
    host = Host("mail", ("203.0.113.5", "2001:db8::5"), "prod")
    assert ways(host) == [
        "ada@10.100.0.25:2288 (VPN)",
        "ada@[fd00:100::25]:2288 (VPN)",
        "ada@203.0.113.5:2288 (public)",
        "ada@[2001:db8::5]:2288 (public)",
        "ada@203.0.113.5:22 (public)",
        "ada@[2001:db8::5]:22 (public)",
        "root@203.0.113.5:22 (public)",
        "root@[2001:db8::5]:22 (public)",
    ]


@pytest.mark.parametrize(
    ("named", "tried"),
    [
        ({"port": 2200}, ["ada@203.0.113.5:2200", "root@203.0.113.5:2200", "ada@203.0.113.5:2288"]),
        ({"user": "eve"}, ["eve@203.0.113.5:2288", "eve@203.0.113.5:22", "ada@203.0.113.5:2288"]),
        ({"port": 2200, "user": "eve"}, ["eve@203.0.113.5:2200", "ada@203.0.113.5:2288"]),
        ({"port": 2288, "user": "ada"}, ["ada@203.0.113.5:2288"]),
    ],
)
def test_a_port_and_user_of_the_roster_come_before_the_only_way_into_a_finished_host(
    named: dict[str, Any], tried: list[str]
) -> None:
    host = Host("mail", ("203.0.113.5",), "prod", **named)
    assert ways(host)[2:] == [f"{way} (public)" for way in tried]


def test_an_entry_of_the_roster() -> None:
    host = parse_host("mail", {"host": ["203.0.113.5", "2001:DB8::5"], "environment": "prod", "port": 22})
    assert host == Host("mail", ("203.0.113.5", "2001:db8::5"), "prod", port=22)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (None, "mail: is not a section of keys such as host: and environment:"),
        ({"environment": "prod"}, "mail.host: is missing"),
        ({"host": "203.0.113.5"}, "mail.environment: is missing"),
        ({"host": "mail.example.org", "environment": "prod"}, "mail.host: 'mail.example.org' is not an IP address"),
        ({"host": "203.0.113.5", "environment": "prod", "port": "22"}, "mail.port: '22' is not a port number from 1 to 65535"),
        ({"host": "203.0.113.5", "environment": "prod", "priv": "~/my keys/id"}, "mail.priv: ~/my keys/id: has a space in it, and salt-ssh cannot send files from there"),
        ({"host": "203.0.113.5", "environment": "prod", "passwd": "x"}, "mail.passwd: no such key; here are environment, host, host_key, port, priv, user"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_refused(entry: Any, sentence: str) -> None:
    with pytest.raises(InvalidRoster) as caught:
        parse_host("mail", entry)
    assert str(caught.value) == sentence


def test_a_host_key_is_known_under_one_name_and_no_host_is_trusted_by_accident() -> None:
    options = mailhost_endpoint.ssh_options(Host("mail", ("203.0.113.5",), "prod"), "/a b/known", "/run/x/%C")
    assert "HostKeyAlias=mail" in options
    assert "StrictHostKeyChecking=accept-new" in options
    assert "UserKnownHostsFile='/a b/known'" in options
    pinned = Host("mail", ("203.0.113.5",), "prod", host_key="ssh-ed25519 AAAA")
    assert "StrictHostKeyChecking=yes" in mailhost_endpoint.ssh_options(pinned, "/k", "/run/x/%C")


@pytest.mark.parametrize("path", ["/home/ada/mail", "/srv/ädä/mail-host_1.2", "/tmp/~x,y@z:1"])
def test_paths_that_a_shell_leaves_alone(path: str) -> None:
    assert mailhost_endpoint.unsendable(path) == ""


@pytest.mark.parametrize(
    ("path", "named"),
    [("/home/ada/my mail", "a space"), ("/srv/a$b", "$"), ("/srv/it's (1)", "a space and ' and ( and )")],
)
def test_paths_that_it_does_not(path: str, named: str) -> None:
    assert mailhost_endpoint.unsendable(path) == f"{path}: has {named} in it, and salt-ssh cannot send files from there"
