"""Names, resolvers and the way out: what the host's files should say, and what a resolver's answer is worth."""

import json
import struct
from typing import Any

import pytest

import mailhost_network
from unit.test_pillar import changed, sentences

VPN = {
    "address": "10.100.0.25/24",
    "address6": "fd00:100::25/64",
    "peers": {
        "laptop": {"addresses": ["10.100.0.2/32", "fd00:100::2/128"]},
        "hub": {"addresses": ["10.100.0.0/24", "10.100.0.1/32"]},
    },
}
NAMES = {"hostname": "mail", "fqdn": "mail.example.org"}
VULTR = "127.0.0.1\tlocalhost\n127.0.1.1\tvultr.guest\tvultr\n\n::1     localhost ip6-localhost\n"
OURS = """\
# BEGIN mailhost: changes made here are lost
127.0.1.1 mail.example.org mail
10.100.0.25 mail.vpn
fd00:100::25 mail.vpn
10.100.0.1 hub.vpn
10.100.0.2 laptop.vpn
fd00:100::2 laptop.vpn
# END mailhost

"""


def test_the_hosts_file_knows_the_host_and_the_vpn() -> None:
    text = mailhost_network.hosts(VULTR, NAMES, VPN)
    assert text == OURS + "127.0.0.1\tlocalhost\n\n::1     localhost ip6-localhost\n"
    assert mailhost_network.hosts(text, NAMES, VPN) == text


def test_a_peer_that_is_gone_leaves_the_hosts_file() -> None:
    text = mailhost_network.hosts(VULTR, NAMES, VPN)
    assert "laptop" not in mailhost_network.hosts(text, NAMES, {**VPN, "peers": {}})


def test_the_hosts_own_name_stays_when_nobody_declares_one() -> None:
    text = mailhost_network.hosts(VULTR, {"hostname": "vultr", "fqdn": ""}, VPN)
    assert "127.0.1.1\tvultr.guest\tvultr\n" in text
    assert "10.100.0.25 vultr.vpn\n" in text


def test_the_head_of_cloud_inits_template_stays_its_first_line() -> None:
    template = "## template:jinja\n{# words #}\n127.0.1.1 {{fqdn}} {{hostname}}\n127.0.0.1 localhost\n"
    text = mailhost_network.hosts(template, NAMES, VPN)
    assert text == f"## template:jinja\n{OURS}{{# words #}}\n127.0.0.1 localhost\n"
    assert mailhost_network.hosts(text, NAMES, VPN) == text


@pytest.mark.parametrize(
    ("hostname", "fqdn", "names"),
    [
        (None, None, ("vultr", "")),
        ("mx", None, ("mx", "mx")),
        (None, "mail.example.org", ("mail", "mail.example.org")),
        ("mx", "mail.example.org", ("mx", "mail.example.org")),
    ],
)
def test_which_names_the_host_has(hostname: str | None, fqdn: str | None, names: tuple[str, str]) -> None:
    found = mailhost_network.names({"hostname": hostname, "fqdn": fqdn}, "vultr")
    assert (found["hostname"], found["fqdn"]) == names


@pytest.mark.parametrize(
    ("link", "resolved", "who"),
    [
        (None, "inactive", "nobody"),
        (None, "active", "nobody"),
        ("../run/systemd/resolve/stub-resolv.conf", "active", "systemd-resolved"),
        ("/run/systemd/resolve/resolv.conf", "active", "systemd-resolved"),
        ("/usr/lib/systemd/resolv.conf", "active", "systemd-resolved"),
        ("../run/systemd/resolve/stub-resolv.conf", "failed", "nobody"),
        ("../run/resolvconf/resolv.conf", "active", "nobody"),
    ],
)
def test_who_writes_the_resolvers_file(link: str | None, resolved: str, who: str) -> None:
    assert mailhost_network.owner(link, resolved) == who


def test_files_for_systemd_resolved() -> None:
    files = mailhost_network.resolver_files(["9.9.9.9", "2620:fe::fe"], ["example.org"], "systemd-resolved", {})
    (text,) = files.values()
    assert text.splitlines()[1:] == ["[Resolve]", "DNS=9.9.9.9 2620:fe::fe", "Domains=example.org ~."]


def test_files_where_the_resolvers_file_is_ours() -> None:
    dhcpcd = 'case "$reason" in BOUND) exit 0;; esac\n'
    writers = {"dhcpcd": dhcpcd, "dhclient": None, "openresolv": "resolvconf=NO\n", "NetworkManager": None}
    files = mailhost_network.resolver_files(["9.9.9.9"], [], "nobody", writers)
    assert mailhost_network.nameservers(files["/etc/resolv.conf"]) == ["9.9.9.9"]
    assert "search" not in files["/etc/resolv.conf"]
    # At the top: what stands there may end before a line at its end.
    skip = 'skip_hooks="$skip_hooks resolv.conf"'
    assert files["/etc/dhcpcd.enter-hook"] == f"{mailhost_network.HEAD}{skip}\n\n{dhcpcd}"
    assert "make_resolv_conf() { :; }\n" in files["/etc/dhcp/dhclient-enter-hooks.d/mailhost"]
    assert files["/etc/resolvconf.conf"] == "resolvconf=NO\n"
    assert files[mailhost_network.NETWORK_MANAGER].endswith("\n[main]\ndns=none\n\n")
    found = {name: files[mailhost_network.WRITERS[name][1]] for name in writers}
    assert mailhost_network.resolver_files(["9.9.9.9"], [], "nobody", found) == files


def test_resolvers_of_leases_stand_behind_the_declared_ones() -> None:
    assert mailhost_network.in_use(["9.9.9.9"], ["9.9.9.9", "192.0.2.1"], "systemd-resolved")
    assert not mailhost_network.in_use(["9.9.9.9"], ["192.0.2.1", "9.9.9.9"], "systemd-resolved")
    assert not mailhost_network.in_use(["9.9.9.9"], ["9.9.9.9", "192.0.2.1"], "nobody")


@pytest.mark.parametrize(
    ("there", "changes"),
    [
        ({"kind": "file", "text": "a\n"}, set()),
        ({"kind": "file", "text": "b\n"}, {"/f"}),
        ({"kind": None}, {"/f"}),
        ({"kind": "link"}, {"/f"}),
    ],
)
def test_what_differs_in_files(there: dict[str, Any], changes: set[str]) -> None:
    assert set(mailhost_network.plan_files({"/f": "a\n"}, {"/f": there})) == changes


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["Types: deb\nURIs: https://mirror.example.net/debian\n"], "mirror.example.net"),
        (["# deb http://old.example.net/debian trixie main\ndeb http://mirror.example.net:8080/debian trixie main\n"], "mirror.example.net"),
        (["deb [signed-by=/k.gpg] http://192.0.2.1/debian trixie main\n", "URIs: http://x.example.net/\n"], "x.example.net"),
        (["deb http://192.0.2.1/debian trixie main\n", "", "deb file:/srv/debian ./\n"], ""),
    ],
)  # fmt: skip
def test_the_name_that_is_looked_up_is_one_the_host_needs(sources: list[str], name: str) -> None:
    assert mailhost_network.probe_name(sources) == name


def test_the_question_as_it_goes_over_the_wire() -> None:
    # RFC 1035 section 4.1, for "a.example": header, labels, type A, class IN.
    assert mailhost_network.query("a.example", 0x1234) == bytes.fromhex(
        "1234 0100 0001 0000 0000 0000 0161 076578616d706c65 00 0001 0001"
    )
    assert mailhost_network.query("", 1)[12:] == bytes.fromhex("00 0002 0001")


def answer(code: int, found: int, number: int = 7) -> bytes:
    return struct.pack(">HHHHHH", number, 0x8180 | code, 1, found, 0, 0)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (answer(0, 1), ""),
        (answer(0, 0), "it found nothing"),
        (answer(2, 0), "it failed (SERVFAIL)"),
        (answer(3, 0), "it does not know the name (NXDOMAIN)"),
        (answer(5, 0), "it refused"),
        (answer(4, 0), "it answered with error 4"),
        (answer(0, 1, number=8), "what came back is no answer"),
        (b"", "what came back is no answer"),
    ],
)
def test_what_an_answer_is_worth(packet: bytes, said: str) -> None:
    assert mailhost_network.refusal(packet, 7) == said


def test_the_way_out_is_the_best_default_route() -> None:
    routes = json.loads(
        '[{"dst":"default","gateway":"192.0.2.1","dev":"enp8s0","metric":200,"flags":[]},'
        '{"dst":"default","gateway":"203.0.113.1","dev":"enp1s0","flags":[]}]'
    )
    links = json.loads(
        '[{"ifname":"enp1s0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500},'
        '{"ifname":"enp8s0","flags":["BROADCAST","UP"],"mtu":1450}]'
    )
    assert mailhost_network.way_out(routes, links) == {
        "name": "enp1s0",
        "gateway": "203.0.113.1",
        "up": True,
        "mtu": 1500,
    }
    down = mailhost_network.way_out(routes[:1], links)
    assert down and not down["up"], "no carrier"
    assert mailhost_network.way_out([], links) is None


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"hostname": "mail.example.org"}, "network.hostname: 'mail.example.org' is not a name of small letters, digits and dashes"),
        ({"fqdn": "mail"}, "network.fqdn: 'mail' is not a domain such as mail.example.org"),
        ({"fqdn": "mail..org"}, "network.fqdn: 'mail..org' is not a domain such as mail.example.org"),
        ({"resolvers": []}, "network.resolvers: is not a list of one to three addresses"),
        ({"resolvers": ["192.0.2.1"] * 4}, "network.resolvers: is not a list of one to three addresses"),
        ({"resolvers": ["dns.example.org"]}, "network.resolvers: 'dns.example.org' is not an address"),
        ({"resolvers": ["192.0.2.1", "192.0.2.1"]}, "network.resolvers: names a resolver twice"),
        ({"resolvers": ["127.0.0.53"]}, "network.resolvers: 127.0.0.53 is systemd-resolved's own address: name the resolvers it is to ask"),
        ({"resolvers": ["10.100.0.1"]}, "network.resolvers: all of them are inside the VPN, so lookups would end with the tunnel"),
        ({"search": ["example.org"]}, "network.search: needs network.resolvers: without them the host's own settings stay"),
        ({"search": "example.org", "resolvers": ["192.0.2.1"]}, "network.search: 'example.org' is not a list of domains"),
        ({"mtu": 100}, "network.mtu: 100 is not a number of bytes from 1280 to 65535"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(network: dict[str, Any], sentence: str) -> None:
    assert sentences(changed("network", network)) == [sentence]


def test_a_peer_must_not_have_the_hosts_name() -> None:
    pillar = changed("network.fqdn", "mail.example.org")
    pillar["vpn"] = {
        "peers": {"mail": {"public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "addresses": ["10.100.0.2"]}}
    }
    assert sentences(pillar) == ["vpn.peers.mail: is the host's own name (network.hostname)"]
