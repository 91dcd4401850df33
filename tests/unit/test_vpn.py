"""WireGuard: what differs between the declared tunnel and the one that is there, and nothing secret in the difference."""

import base64
import copy
import json
from typing import Any

import pytest
import yaml
from salt.exceptions import CommandExecutionError

import mailhost_pillar
import mailhost_rotation
import mailhost_vpn
from unit.test_pillar import changed, sentences


def key(letter: str) -> str:
    """Return a key that a test can tell from others, spelled as wg does."""
    return mailhost_vpn.clamped(base64.b64encode(letter.encode() * 32).decode())


HOST, LAPTOP, HUB, STRANGER, SHARED = map(key, "hlust")
PUBLIC = key("p")  # not computed here: the interface says it

VPN = mailhost_pillar.plain(
    mailhost_pillar.parse(
        changed(
            "vpn",
            {
                "address6": "fd00:100::25/64",
                "peers": {
                    "laptop": {"public_key": LAPTOP, "addresses": ["10.100.0.2", "fd00:100::2"]},
                    "hub": {
                        "public_key": HUB,
                        "addresses": ["10.100.0.0/24"],
                        "endpoint": "203.0.113.9:51820",
                        "keepalive": 10,
                        "preshared_key": SHARED,
                    },
                },
            },
        )
    )
)["vpn"]

# As `wg show all dump` of wireguard-tools 1.0.20210914 prints it; the keys are those of this file.
DUMP = (
    f"wg0\t{HOST}\t{PUBLIC}\t51820\toff\n"
    f"wg0\t{HUB}\t{SHARED}\t203.0.113.9:51820\t10.100.0.0/24\t1795379491\t396\t484\t10\n"
    f"wg0\t{LAPTOP}\t(none)\t(none)\tfd00:100::2/128,10.100.0.2/32\t0\t0\t0\t25\n"
    f"wg1\t(none)\t(none)\t0\toff\n"
    f"wg1\t{STRANGER}\t(none)\t[2001:db8::1]:1\t(none)\t0\t0\t0\toff\n"
)
# As `ip -json address` of iproute2 6.15 prints it, without what nobody reads.
LINKS = json.loads(
    """[{"ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536, "addr_info":
         [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
        {"ifname": "wg0", "flags": ["POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP"], "mtu": 1420, "addr_info":
         [{"family": "inet", "local": "10.100.0.25", "prefixlen": 24, "scope": "global"},
          {"family": "inet6", "local": "fd00:100::25", "prefixlen": 64, "scope": "global"},
          {"family": "inet6", "local": "fe80::45ad", "prefixlen": 64, "scope": "link"}]}]"""
)
WANTED = {"vpn": VPN, "private_key": HOST, "source": "as declared"}


def found(**differences: Any) -> dict[str, Any]:
    """Return what there is on a host where all is as declared, but for the differences."""
    text = mailhost_vpn.configuration(VPN, HOST)
    whole = {
        "directory": {"kind": "directory", "user": "root", "group": "root", "mode": "0700"},
        "file": {"kind": "file", "user": "root", "group": "root", "mode": "0600", "text": text},
        "enabled": "enabled",
        "active": "active",
        "link": mailhost_vpn.parse_link(LINKS, "wg0"),
        "device": mailhost_vpn.parse_dump(DUMP)["wg0"],
        "rotating": False,
    }
    return copy.deepcopy({**whole, **differences})


def file(text: str, mode: str = "0600") -> dict[str, Any]:
    return {"kind": "file", "user": "root", "group": "root", "mode": mode, "text": text}


def device(**differences: Any) -> dict[str, Any]:
    return {**mailhost_vpn.parse_dump(DUMP)["wg0"], **differences}


def link(**differences: Any) -> dict[str, Any]:
    return {**(mailhost_vpn.parse_link(LINKS, "wg0") or {}), **differences}


def peers(**differences: Any) -> dict[str, Any]:
    """Return the interface with differences in the laptop's entry."""
    there = copy.deepcopy(device())
    there["peers"][LAPTOP].update(differences)
    return there


def test_what_the_interface_says_of_itself() -> None:
    both = mailhost_vpn.parse_dump(DUMP)
    assert set(both) == {"wg0", "wg1"}
    assert both["wg0"]["port"] == 51820
    assert both["wg0"]["peers"][HUB]["preshared_key"] == SHARED
    assert both["wg0"]["peers"][HUB]["handshake"] == 1795379491
    assert both["wg0"]["peers"][LAPTOP]["endpoint"] is None
    assert both["wg1"]["peers"][STRANGER]["addresses"] == []
    assert both["wg1"]["peers"][STRANGER]["keepalive"] == 0
    assert mailhost_vpn.parse_dump("") == {}


def test_where_the_interface_is() -> None:
    assert link() == {"up": True, "mtu": 1420, "addresses": ["10.100.0.25/24", "fd00:100::25/64"]}
    assert mailhost_vpn.parse_link(LINKS, "wg1") is None


def test_as_declared_nothing_differs() -> None:
    assert mailhost_vpn.plan(WANTED, found()) == {}


def test_on_a_fresh_host_everything_differs() -> None:
    nothing = {"kind": None}
    fresh = found(directory=nothing, file=nothing, enabled="disabled", active="inactive", link=None, device=None)
    changes = mailhost_vpn.plan({**WANTED, "private_key": None, "source": "made here"}, fresh)
    assert set(changes) == {"private key", "configuration", "enabled", "interface"}
    assert changes["private key"] == {"old": None, "new": "made here"}
    assert "+PrivateKey = (a key)" in changes["configuration"]


TEXT = mailhost_vpn.configuration(VPN, HOST)


@pytest.mark.parametrize(
    ("there", "changes"),
    [
        ({"directory": {"kind": "directory", "user": "root", "group": "root", "mode": "0755"}}, {"directory"}),
        ({"file": file(TEXT, "0644")}, {"access"}),
        ({"file": file(TEXT.replace("51820\nAddress", "4500\nAddress"))}, {"configuration"}),
        ({"file": file(TEXT.replace(SHARED, STRANGER))}, {"configuration"}),
        ({"file": file(TEXT.replace(HOST, STRANGER))}, {"private key"}),
        ({"file": file(TEXT.replace(f"PrivateKey = {HOST}\n", ""))}, {"private key", "configuration"}),
        ({"enabled": "disabled"}, {"enabled"}),
        ({"active": "inactive"}, {"interface"}),
        ({"active": "failed", "link": None, "device": None}, {"interface"}),
        ({"link": None, "device": None}, {"interface"}),
        ({"link": link(up=False)}, {"interface"}),
        ({"link": link(addresses=["10.100.0.25/24"])}, {"interface"}),
        ({"link": link(addresses=["10.100.0.25/24", "fd00:100::25/64", "10.9.9.9/32"])}, {"interface"}),
        ({"device": device(private_key=STRANGER)}, {"interface"}),
        ({"device": device(port=4500)}, {"interface"}),
        ({"device": device(peers={})}, {"interface"}),
        ({"device": peers(addresses=["10.100.0.2/32"])}, {"interface"}),
        ({"device": peers(keepalive=0)}, {"interface"}),
        ({"device": peers(preshared_key=STRANGER)}, {"interface"}),
    ],
)
def test_each_difference_is_seen_and_shows_no_secret(there: dict[str, Any], changes: set[str]) -> None:
    planned = mailhost_vpn.plan(WANTED, found(**there))
    assert set(planned) == changes
    for secret in (HOST, SHARED, STRANGER):
        assert secret not in repr(planned)


def test_a_peer_that_nobody_declared_is_named() -> None:
    there = copy.deepcopy(device())
    there["peers"][STRANGER] = there["peers"][LAPTOP]
    assert mailhost_vpn.plan_live(VPN, HOST, there) == [f"peer {STRANGER} removed: nobody declared it"]


@pytest.mark.parametrize(
    ("where", "restart"),
    [
        (link(), []),
        (link(mtu=1280), ["MTU 1280 -> 1420"]),
        (link(addresses=[]), ["addresses none -> 10.100.0.25/24, fd00:100::25/64"]),
    ],
)
def test_only_addresses_and_mtu_need_a_restart(where: dict[str, Any], restart: list[str]) -> None:
    assert mailhost_vpn.plan_restart({**VPN, "mtu": 1420}, where) == restart


def test_mtu_is_left_to_wg_quick_when_nobody_declares_it() -> None:
    assert mailhost_vpn.plan_restart(VPN, link(mtu=1280)) == []
    assert "MTU" not in TEXT
    assert "MTU = 1280" in mailhost_vpn.configuration({**VPN, "mtu": 1280}, HOST)


def test_the_key_in_use_is_kept() -> None:
    given = {**VPN, "private_key": STRANGER}
    assert mailhost_vpn.choose_key(given, TEXT, device()) == (STRANGER, "as declared")
    assert mailhost_vpn.choose_key(VPN, TEXT, None)[0] == HOST
    assert mailhost_vpn.choose_key(VPN, "[Interface]\n", device())[0] == HOST
    assert mailhost_vpn.choose_key(VPN, None, None)[0] is None
    with pytest.raises(CommandExecutionError, match=r"/etc/wireguard/wg0\.conf: has no private key"):
        mailhost_vpn.choose_key(VPN, "[Interface]\nPrivateKey = damaged\n", None)


def test_a_key_in_another_spelling_is_the_same_key() -> None:
    # Bits 0-2 and 255 do not count, bit 254 is always set (RFC 7748): an interface says so, whatever it was given.
    raw = bytearray(base64.b64decode(HOST))
    raw[0] |= 7
    raw[31] |= 128
    other = base64.b64encode(raw).decode()
    assert other != HOST
    assert mailhost_vpn.choose_key({**VPN, "private_key": other}, None, None)[0] == HOST


def test_a_foreign_configuration_is_shown_without_its_keys() -> None:
    text = f"[Interface]\nprivatekey={HOST}\nPostUp = wg set wg0 peer {LAPTOP} preshared-key <(echo {SHARED})\n"
    shown = mailhost_vpn.shown(text + f"# {STRANGER} was mine\n[Peer]\nPublicKey = {LAPTOP}\n")
    assert "PublicKey = " + LAPTOP in shown
    for secret in (HOST, SHARED, STRANGER):
        assert secret not in shown


def test_who_shook_hands_last() -> None:
    assert mailhost_vpn.last_handshake(VPN, device()) == ("hub", 1795379491)
    assert mailhost_vpn.last_handshake(VPN, device(peers={})) is None
    assert mailhost_vpn.last_handshake({**VPN, "peers": {}}, device()) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (200000, "2 d")]
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert mailhost_vpn.ago(seconds) == words


def test_only_routes_of_the_fence_count() -> None:
    routes = json.loads(
        '[{"type":"unreachable","dst":"10.100.0.0/24","protocol":"kernel","metric":1000000,"flags":[]},'
        '{"type":"unreachable","dst":"fd00:100::/64","dev":"lo","protocol":"kernel","metric":1000000,"flags":[]},'
        '{"type":"unreachable","dst":"10.7.0.0/16","metric":5,"flags":[]}]'
    )
    assert mailhost_vpn.unreachable(routes) == ["10.100.0.0/24", "fd00:100::/64"]


# A peer's own configuration.


def test_a_peers_own_configuration() -> None:
    host = {"name": "mail", "public_key": PUBLIC, "address": "2001:db8::5"}
    text = mailhost_vpn.peer_configuration(VPN, "laptop", host, "(key)")
    assert text.splitlines() == [
        "# laptop in the VPN of mail",
        "[Interface]",
        "PrivateKey = (key)",
        "Address = 10.100.0.2/32, fd00:100::2/128",
        "",
        "[Peer]",
        f"PublicKey = {PUBLIC}",
        "AllowedIPs = 10.100.0.25, fd00:100::25",
        "Endpoint = [2001:db8::5]:51820",
        "PersistentKeepalive = 25",
    ]


def test_a_peers_own_configuration_has_its_preshared_key_and_the_mtu() -> None:
    vpn = copy.deepcopy({**VPN, "mtu": 1300})
    vpn["peers"]["laptop"]["preshared_key"] = SHARED
    text = mailhost_vpn.peer_configuration(
        vpn, "laptop", {"name": "m", "public_key": PUBLIC, "address": "192.0.2.1"}, ""
    )
    assert f"PresharedKey = {SHARED}\n" in text
    assert "MTU = 1300\n" in text
    assert "Endpoint = 192.0.2.1:51820\n" in text


def test_a_new_peer_gets_addresses_that_nobody_has() -> None:
    assert mailhost_vpn.free_addresses(VPN) == ["10.100.0.3", "fd00:100::3"]
    assert mailhost_vpn.free_addresses({**VPN, "address": "10.100.0.3/24", "address6": None}) == ["10.100.0.4"]


def test_the_lines_for_the_pillar_are_pillar() -> None:
    lines = mailhost_vpn.pillar_lines("phone", STRANGER, ["10.100.0.3", "fd00:100::3"])
    phone = yaml.safe_load(lines)["vpn"]["peers"]["phone"]
    assert phone == {"public_key": STRANGER, "addresses": ["10.100.0.3", "fd00:100::3"]}
    assert yaml.safe_load(mailhost_vpn.pillar_lines("phone", STRANGER)) == {
        "vpn": {"peers": {"phone": {"public_key": STRANGER}}}
    }


# A new key on trial.


def test_a_new_key_goes_into_the_configuration() -> None:
    assert mailhost_rotation.with_key(TEXT, STRANGER) == mailhost_vpn.configuration(VPN, STRANGER)


def test_handshakes_as_wg_prints_them() -> None:
    assert mailhost_rotation.handshakes(f"{HUB}\t1795379491\n{LAPTOP}\t0\n") == {HUB: "1795379491", LAPTOP: "0"}
    assert mailhost_rotation.handshakes("") == {}


# The pillar.

PEER = {"public_key": LAPTOP, "addresses": ["10.100.0.2"]}
NO_KEY = "is not a key as wg genkey, wg pubkey and wg genpsk print it (44 characters that end in =)"


@pytest.mark.parametrize(
    ("vpn", "sentence"),
    [
        ({"peers": ["laptop"]}, "vpn.peers: ['laptop'] is not a mapping of names to sections of keys"),
        ({"peers": {"My Laptop": PEER}}, "vpn.peers: 'My Laptop' is not a name of small letters, digits and dashes"),
        ({"peers": {1: PEER}}, "vpn.peers: 1 is not a name of small letters, digits and dashes"),
        ({"peers": {"a": "x"}}, "vpn.peers.a: 'x' is not a section of keys"),
        ({"peers": {"a": {**PEER, "colour": 1}}}, "vpn.peers.a.colour: no such key; here are public_key, addresses, endpoint, keepalive, preshared_key"),
        ({"peers": {"a": {"public_key": LAPTOP}}}, "vpn.peers.a.addresses: is missing (what is behind the peer: its own addresses; for a hub the network)"),
        ({"peers": {"a": {**PEER, "public_key": LAPTOP[:-1]}}}, f"vpn.peers.a.public_key: {NO_KEY}"),
        ({"peers": {"a": {**PEER, "preshared_key": "hunter2"}}}, f"vpn.peers.a.preshared_key: {NO_KEY}"),
        ({"private_key": HOST[:-2] + "F="}, f"vpn.private_key: {NO_KEY}"),
        ({"peers": {"a": {**PEER, "addresses": []}}}, "vpn.peers.a.addresses: is not a list of addresses such as 10.100.0.2 or, for a hub, 10.100.0.0/24"),
        ({"peers": {"a": {**PEER, "addresses": ["10.100.0.2/24"]}}}, "vpn.peers.a.addresses: '10.100.0.2/24' is an address in a network: write 10.100.0.2 or 10.100.0.0/24"),
        ({"peers": {"a": {**PEER, "addresses": ["laptop"]}}}, "vpn.peers.a.addresses: 'laptop' is neither an address nor a network"),
        ({"peers": {"a": {**PEER, "addresses": ["10.100.0.2", "10.100.0.2/32"]}}}, "vpn.peers.a.addresses: names an address twice"),
        ({"peers": {"a": {**PEER, "addresses": ["192.168.0.2"]}}}, "vpn.peers.a.addresses: 192.168.0.2/32 is outside the VPN's network 10.100.0.0/24"),
        ({"peers": {"a": {**PEER, "addresses": ["0.0.0.0/0"]}}}, "vpn.peers.a.addresses: 0.0.0.0/0 is outside the VPN's network 10.100.0.0/24"),
        ({"peers": {"a": {**PEER, "addresses": ["10.100.0.25"]}}}, "vpn.peers.a.addresses: 10.100.0.25/32 is the host's own address"),
        ({"peers": {"a": {**PEER, "addresses": ["fd00::2"]}}}, "vpn.peers.a.addresses: fd00::2/128 is an IPv6 address, and vpn.address6 gives the host none"),
        ({"peers": {"a": PEER, "b": {**PEER, "public_key": HUB}}}, "vpn.peers.b.addresses: 10.100.0.2/32 belongs to a too"),
        ({"peers": {"a": PEER, "b": {**PEER, "addresses": ["10.100.0.3"]}}}, "vpn.peers.b.public_key: is that of a too"),
        ({"peers": {"a": {**PEER, "endpoint": "hub.example.org:51820"}}}, "vpn.peers.a.endpoint: 'hub.example.org:51820' is not an address and a port such as 203.0.113.5:51820 or [2001:db8::5]:51820"),
        ({"peers": {"a": {**PEER, "endpoint": "999.1.1.1:51820"}}}, "vpn.peers.a.endpoint: '999.1.1.1:51820' does not begin with an address"),
        ({"peers": {"a": {**PEER, "endpoint": "[2001:db8::5]:0"}}}, "vpn.peers.a.endpoint: 0 is not a port number from 1 to 65535"),
        ({"interface": "eth0"}, "vpn.interface: 'eth0' is not the name of a WireGuard interface (wg, then small letters or digits)"),
        ({"mtu": 576}, "vpn.mtu: 576 is not a number of bytes from 1280 to 9000"),
        ({"keepalive": -1}, "vpn.keepalive: -1 is not a number of seconds from 0 to 65535"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(vpn: dict[str, Any], sentence: str) -> None:
    assert sentences(changed("vpn", vpn)) == [sentence]


def test_a_hub_and_a_peer_of_its_network_go_together() -> None:
    hub = {"public_key": HUB, "addresses": ["10.100.0.0/24"], "endpoint": "[2001:DB8::5]:51820"}
    parsed = mailhost_pillar.parse(changed("vpn.peers", {"hub": {**hub, "endpoint": "[2001:db8::5]:51820"}, "a": PEER}))
    assert parsed.vpn.peers["hub"].endpoint == "[2001:db8::5]:51820"
    assert parsed.vpn.peers["a"].addresses == ("10.100.0.2/32",)
