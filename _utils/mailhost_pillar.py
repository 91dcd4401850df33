"""What the pillar may say: one frozen dataclass a section, each value parsed, and then checked against the others.

A value that exists is valid: nothing downstream looks for a default or doubts a type. ``parse()`` reports everything
that is wrong at once, each sentence beginning with the path of the key.
"""

import base64
import contextlib
import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailhost_hardening
import mailhost_postgres

REQUIRED = object()
T = TypeVar("T")


class Invalid(ValueError):
    """A single value cannot be used; the message reads on after the path of its key."""


class PillarErrors(ValueError):
    """The pillar cannot be used; ``sentences`` holds one sentence for each thing that is wrong."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def key(
    parse: Callable[[Any], Any], doc: str, default: Any = REQUIRED, *, secret: bool = False, example: str = ""
) -> Any:
    """Declare a key of the pillar: how it is parsed, what it means, its default, and whether it is a secret.

    A key without a default has an example instead, as YAML, for pillar.example.
    """
    metadata = {"parse": parse, "doc": doc, "secret": secret, "example": example}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(kind: type[T], doc: str) -> Any:
    """Declare a section of the pillar, itself a dataclass of keys."""
    return dataclasses.field(metadata={"section": kind, "doc": doc})


def sections(kind: type[T], name: Callable[[Any], str], doc: str, *, example: str) -> Any:
    """Declare a mapping of sections of one kind, by names that ``name`` parses; there may be none.

    The example is a name, for pillar.example.
    """
    metadata = {"sections": kind, "name": name, "doc": doc, "example": example}
    return dataclasses.field(kw_only=True, metadata=metadata)


# What a single value may be. Each returns the value as the tree uses it or raises Invalid.


def text_matching(pattern: str, meaning: str) -> Callable[[Any], str]:
    """Return a parser of texts that match the whole of ``pattern``; ``meaning`` is what the value then is."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Invalid(f"{value!r} is not {meaning}")
        return value

    return parse


def whole(low: int, high: int, meaning: str) -> Callable[[Any], int]:
    """Return a parser of whole numbers from ``low`` to ``high``."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"{value!r} is not {meaning} from {low} to {high}")
        return value

    return parse


def decimal(low: float, high: float, meaning: str) -> Callable[[Any], float]:
    """Return a parser of numbers, also such as 1.5, from ``low`` to ``high``."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise Invalid(f"{value!r} is not {meaning} from {low} to {high}")
        return float(value)

    return parse


def pem(kind: str) -> Callable[[Any], str]:
    """Return a parser of PEM texts (RFC 7468). The value is never repeated in the message: it may be a secret."""
    frame = rf"(\s*-----BEGIN [A-Z ]*{kind}-----\s[A-Za-z0-9+/=\s]+-----END [A-Z ]*{kind}-----\s*)+"

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(frame, value):
            raise Invalid(f"is not a text in PEM: -----BEGIN {kind}----- and so on")
        return value.strip() + "\n"

    return parse


def flag(value: Any) -> bool:
    """Parse true or false."""
    if not isinstance(value, bool):
        raise Invalid(f"{value!r} is neither true nor false")
    return value


def optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a parser that also takes null, for a key that may stay open."""
    return lambda value: None if value is None else parse(value)


def interface(version: int) -> Callable[[Any], str]:
    """Return a parser of addresses with a prefix length, of IP version 4 or 6."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or "/" not in value:
            raise Invalid(f"{value!r} is not an address with a prefix length")
        try:
            parsed = ipaddress.ip_interface(value)
        except ValueError:
            raise Invalid(f"{value!r} is not an address with a prefix length") from None
        if parsed.version != version:
            raise Invalid(f"{value!r} is not an IPv{version} address")
        if parsed.ip == parsed.network.network_address and parsed.network.num_addresses > 1:
            raise Invalid(f"{value!r} is the network's own address, not a host's")
        return str(parsed)

    return parse


def networks(value: Any) -> tuple[str, ...]:
    """Parse a list of addresses and networks of both IP versions; one address is written without a prefix length."""
    if not isinstance(value, (list, tuple)):
        raise Invalid("is not a list of addresses and networks")
    found = []
    for entry in value:
        try:
            network = ipaddress.ip_network(str(entry))
        except ValueError:
            raise Invalid(f"{entry!r} is neither an address nor a network such as 198.51.100.0/24") from None
        if not network.prefixlen:
            raise Invalid(f"{entry!r} is everybody")
        single = network.prefixlen == network.max_prefixlen
        found.append(str(network.network_address if single else network))
    return tuple(found)


KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

# As sshd's RequiredRSASize (control S05): a shorter key would open the host until the moment it is hardened.
RSA_BITS = 3072

# What Debian has for accounts that nobody logs in with, and programs that are over at once.
NO_SHELLS = ("nologin", "false", "true", "sync", "halt", "shutdown")


def public_key(value: Any) -> str:
    """Parse one public key as a line of authorized_keys(5) without options: type, base64, comment."""
    words = value.split() if isinstance(value, str) else []
    if "PRIVATE KEY" in str(value):
        # The value is not repeated: it would put the private key into the output.
        raise Invalid("is a private key; the public one is in the file ending in .pub")
    if len(words) < 2 or words[0] not in KEY_TYPES or "\n" in value.strip():
        raise Invalid(f"{value!r} is not a public key as in a file ending in .pub")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:  # binascii.Error, and of itself where a letter is not of ASCII
        raise Invalid(f"{value!r} is a damaged public key: its second word is not base64") from None
    # RFC 4253 section 6.6: the blob begins with the length of the type's name and the name.
    if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != words[0].encode():
        raise Invalid(f"{value!r} is a damaged public key: its two halves do not belong together")
    if words[0] == "ssh-rsa":
        _rsa_bits(words)
    return " ".join(words)


def _rsa_bits(words: list[str]) -> int:
    """Return the length of an RSA key."""
    try:
        key = serialization.load_ssh_public_key(" ".join(words[:2]).encode())
    except ValueError:
        raise Invalid(f"{' '.join(words)!r} is a damaged public key: its second word is no RSA key") from None
    assert isinstance(key, rsa.RSAPublicKey)
    return key.key_size


def login_key(value: Any) -> str:
    """Parse one public key that may log in to the host."""
    line = public_key(value)
    if line.startswith("ssh-rsa ") and _rsa_bits(line.split()) < RSA_BITS:
        raise Invalid(f"{value!r} is an RSA key of less than {RSA_BITS} bits, which sshd will refuse: use ed25519")
    return line


def public_keys(value: Any) -> tuple[str, ...]:
    """Parse the list of public keys that may log in; an empty one would lock everybody out."""
    if not isinstance(value, (list, tuple)):
        raise Invalid("is not a list of public keys")
    if not value:
        raise Invalid("is empty: put at least one public key in, or nobody can log in")
    keys = tuple(map(login_key, value))
    blobs = [line.split()[1] for line in keys]
    if len(set(blobs)) != len(blobs):
        raise Invalid("names a key twice")
    return keys


def shell(value: Any) -> str:
    """Parse the path of a shell that people log in with."""
    path = text_matching(r"/[\w./-]+", "the path of a shell")(value)
    if path.rpartition("/")[2] in NO_SHELLS:
        raise Invalid(f"{path} ends every login, and this is the one account that people log in with")
    return path


def password_hash(value: Any) -> str:
    """Parse a crypt(5) hash. The value is never repeated in the message: it is a secret."""
    if not isinstance(value, str) or not re.fullmatch(r"\$(y|gy|7|6|2[aby])\$[^\s:!*]{20,}", value):
        raise Invalid("is not a password hash as mkpasswd(1) prints it (yescrypt or stronger than SHA-256)")
    return value


def boot_password_hash(value: Any) -> str:
    """Parse a hash of grub-mkpasswd-pbkdf2(1). The value is never repeated in the message: it is a secret."""
    if not isinstance(value, str) or not re.fullmatch(r"grub\.pbkdf2\.sha512\.\d+(\.[0-9A-F]{128}){2}", value):
        raise Invalid("is not a hash as grub-mkpasswd-pbkdf2 prints it, from grub.pbkdf2 on")
    return value


def archive_key(value: Any) -> str:
    """Parse an armoured public key of OpenPGP (RFC 9580 section 6.2)."""
    frame = r"\s*-----BEGIN PGP PUBLIC KEY BLOCK-----\n.*\n-----END PGP PUBLIC KEY BLOCK-----\s*"
    if not isinstance(value, str) or not re.fullmatch(frame, value, re.DOTALL):
        # Not repeated: somebody may have given a private one.
        raise Invalid("is not a public key as gpg --armor --export prints it")
    return value.strip() + "\n"


def control(value: Any) -> str:
    """Parse the id of a hardening control."""
    if value not in mailhost_hardening.IDS:
        raise Invalid(f"{value!r} is no control; there are {', '.join(mailhost_hardening.IDS)}")
    return str(value)


def controls(value: Any) -> tuple[str, ...]:
    """Parse a list of hardening controls."""
    if not isinstance(value, (list, tuple)):
        raise Invalid(f"{value!r} is not a list of controls")
    return tuple(map(control, value))


def controls_off(value: Any) -> dict[str, str]:
    """Parse the hardening controls that are off, each with its reason."""
    if not isinstance(value, Mapping):
        raise Invalid(f"{value!r} is not a section of controls and reasons")
    for name, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            raise Invalid(f"{control(name)} has no reason: say why it is off")
    return {control(name): " ".join(reason.split()) for name, reason in value.items()}


def wireguard_key(value: Any) -> str:
    """Parse a key of WireGuard, as wg(8) prints it. The value is never repeated in the message: it may be a secret."""
    try:
        # 32 bytes are 43 characters of base64 and one "="; b64decode alone would take other spellings of them.
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != value:
        raise Invalid("is not a key as wg genkey, wg pubkey and wg genpsk print it (44 characters that end in =)")
    return str(value)


def vpn_addresses(value: Any) -> tuple[str, ...]:
    """Parse the list of a peer's addresses: single ones, or a network with its prefix length for a hub."""
    if not isinstance(value, (list, tuple)) or not value:
        raise Invalid("is not a list of addresses such as 10.100.0.2 or, for a hub, 10.100.0.0/24")
    found = []
    for entry in value:
        try:
            face = ipaddress.ip_interface(entry if isinstance(entry, str) else "")
        except ValueError:
            raise Invalid(f"{entry!r} is neither an address nor a network") from None
        if face.ip != face.network.network_address:
            raise Invalid(f"{entry!r} is an address in a network: write {face.ip} or {face.network}")
        found.append(str(face.network))
    if len(set(found)) != len(found):
        raise Invalid("names an address twice")
    return tuple(found)


def resolvers(value: Any) -> tuple[str, ...]:
    """Parse the list of resolvers, which resolv.conf(5) reads three of."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 3:
        raise Invalid("is not a list of one to three addresses")
    found = []
    for entry in value:
        try:
            address = ipaddress.ip_address(entry if isinstance(entry, str) else "")
        except ValueError:
            raise Invalid(f"{entry!r} is not an address") from None
        if str(address) in ("127.0.0.53", "127.0.0.54"):
            raise Invalid(f"{address} is systemd-resolved's own address: name the resolvers it is to ask")
        found.append(str(address))
    if len(set(found)) != len(found):
        raise Invalid("names a resolver twice")
    return tuple(found)


def domains(value: Any) -> tuple[str, ...]:
    """Parse a list of domains."""
    if not isinstance(value, (list, tuple)):
        raise Invalid(f"{value!r} is not a list of domains")
    return tuple(map(domain, value))


def endpoint(value: Any) -> str:
    """Parse where a peer is: address and port.

    No name: wg-quick would look it up, at start only, and a start without DNS would leave the host without its tunnel.
    """
    matched = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})", value) if isinstance(value, str) else None
    if not matched:
        raise Invalid(f"{value!r} is not an address and a port such as 203.0.113.5:51820 or [2001:db8::5]:51820")
    try:
        address = ipaddress.ip_address(matched[1] or matched[2])
    except ValueError:
        raise Invalid(f"{value!r} does not begin with an address") from None
    number = port(int(matched[3]))
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


def firewall_rules(value: Any) -> tuple[dict[str, Any], ...]:
    """Parse the list of what the firewall lets in; protocol is tcp and limited is false where they are not given."""
    if not isinstance(value, (list, tuple)):
        raise Invalid("is not a list of rules such as {port: 25, from: public, comment: SMTP}")
    known: dict[str, Callable[[Any], Any]] = {
        "port": port,
        "protocol": text_matching("tcp|udp", "tcp or udp"),
        "from": text_matching("public|vpn", "public or vpn"),
        "limited": flag,
        # ufw keeps it in its rules file and shows it in its status; it takes no quotes.
        "comment": text_matching(r"[^\x00-\x1f\x7f'\"]{1,60}", "a comment of 60 characters at most, without quotes"),
    }
    found = []
    for number, row in enumerate(value, 1):
        if not isinstance(row, Mapping):
            raise Invalid(f"rule {number}: {row!r} is not a mapping such as {{port: 25, from: public, comment: SMTP}}")
        given = {"protocol": "tcp", "limited": False, **row}
        for name in (*given, *known):
            if name not in known:
                raise Invalid(f"rule {number}: {name}: no such key; here are {', '.join(known)}")
            if name not in given:
                raise Invalid(f"rule {number}: {name}: is missing")
        parsed = {}
        for name, parse in known.items():
            try:
                parsed[name] = parse(given[name])
            except Invalid as error:
                raise Invalid(f"rule {number}: {name}: {error}") from None
        found.append(parsed)
    places = [(row["port"], row["protocol"]) for row in found]
    for place in places:
        if places.count(place) > 1:
            raise Invalid(f"names port {place[0]}/{place[1]} twice")
    return tuple(found)


# useradd(8), --badname: what Debian takes as a login name without being asked twice.
login_name = text_matching(r"[a-z_][a-z0-9_-]{0,31}", "a login name (small letters, digits, _ and -, 32 at most)")
port = whole(1, 65535, "a port number")
# RFC 1123 section 2.1: what a label of a host name may be, and several of them.
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
peer_name = text_matching(LABEL, "a name of small letters, digits and dashes")
domain = text_matching(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})+", "a domain such as mail.example.org")
minutes = whole(1, 525600, "a number of minutes")


# Docker's reference format: a registry and path, a tag, a digest; without tag and digest it would be "latest".
container_image = text_matching(
    r"[a-z0-9]([a-z0-9._/:-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(@sha256:[0-9a-f]{64})?",
    "an image with its tag, such as postgres:17-trixie",
)


# The sections.


@dataclasses.dataclass(frozen=True)
class Admin:
    """The one account people log in with."""

    ssh_keys: tuple[str, ...] = key(
        public_keys,
        "public keys that may log in as the admin: exactly these",
        example="[ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGN0p1r9mEmcFm0Vp5lZK2fPEk7E4iFxNqsp5LgmCd3a ada@example.org]",
    )
    name: str = key(login_name, "login name of the admin", "phalkonadmin")
    uid: int = key(whole(1000, 59999, "a user id of Debian's range for people"), "user and group id of the admin", 1000)
    shell: str = key(shell, "login shell of the admin", "/bin/bash")
    password_hash: str | None = key(
        optional(password_hash),
        "hash for the provider's console, from mkpasswd; null: the password is locked, keys only",
        None,
        secret=True,
    )


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may enter."""

    admin: Admin = section(Admin, "the one account people log in with")
    default_user: str = key(login_name, "the provider's account that is removed", "linuxuser")
    confirm_minutes: int = key(
        whole(1, 60, "a number of minutes"), "minutes until an unconfirmed change of access goes back by itself", 10
    )


@dataclasses.dataclass(frozen=True)
class Docker:
    """Where Docker comes from, and who may use it."""

    repository: str | None = key(
        optional(text_matching(r"(https?|file):/[^\s]+", "the URI of a repository of apt's")),
        "URI of Docker's own repository; null: Docker comes from Debian",
        None,
    )
    repository_key: str | None = key(
        optional(archive_key), "the key that signs docker.repository, as gpg --armor --export prints it", None
    )
    admin_in_group: bool = key(flag, "whether the admin is in group docker, which makes him root without sudo", False)


@dataclasses.dataclass(frozen=True)
class Ssh:
    """Where sshd listens in the end."""

    port: int = key(port, "port of sshd on the finished host", 2288)


keepalive = whole(0, 65535, "a number of seconds")


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another machine of the VPN."""

    public_key: str = key(
        wireguard_key,
        "the peer's public key, as wg pubkey prints it",
        example="xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
    )
    addresses: tuple[str, ...] = key(
        vpn_addresses, "what is behind the peer: its own addresses; for a hub the network", example="[10.100.0.2]"
    )
    endpoint: str | None = key(optional(endpoint), "where the peer is, address:port; null: it comes to us", None)
    keepalive: int | None = key(
        optional(keepalive), "seconds between keepalives to this peer; null: vpn.keepalive", None
    )
    preshared_key: str | None = key(
        optional(wireguard_key),
        "a second, symmetric key shared with this peer, from wg genpsk, or null",
        None,
        secret=True,
    )


@dataclasses.dataclass(frozen=True)
class Vpn:
    """The host's place in the VPN."""

    address: str = key(interface(4), "IPv4 address of the host in the VPN, with the prefix length", "10.100.0.25/24")
    address6: str | None = key(optional(interface(6)), "IPv6 address of the host in the VPN, or null", None)
    interface: str = key(
        text_matching(r"wg[a-z0-9]{1,13}", "the name of a WireGuard interface (wg, then small letters or digits)"),
        "name of the interface",
        "wg0",
    )
    port: int = key(port, "UDP port that WireGuard listens on", 51820)
    keepalive: int = key(keepalive, "seconds between keepalives, so that a NAT on the way stays open; 0: none", 25)
    mtu: int | None = key(
        optional(whole(1280, 9000, "a number of bytes")), "MTU of the tunnel; null: wg-quick's choice", None
    )
    private_key: str | None = key(
        optional(wireguard_key),
        "the host's private key; null: one is made on the host and stays there",
        None,
        secret=True,
    )
    peers: dict[str, Peer] = sections(
        Peer, peer_name, "the other machines of the VPN, by name; without this key: none", example="laptop"
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """The host's names and resolvers."""

    hostname: str | None = key(
        optional(peer_name), "short name of the host; null: the first part of network.fqdn, or as it is", None
    )
    fqdn: str | None = key(optional(domain), "full name of the host, mail.example.org; null: as it is", None)
    resolvers: tuple[str, ...] | None = key(
        optional(resolvers), "addresses of the resolvers, and no others are asked; null: the host's own stay", None
    )
    search: tuple[str, ...] | None = key(
        optional(domains), "domains tried for short names; only together with network.resolvers", None
    )
    mtu: int | None = key(
        optional(whole(1280, 65535, "a number of bytes")),
        "MTU that the interface with the default route must have; null: whatever it has",
        None,
    )


@dataclasses.dataclass(frozen=True)
class Hardening:
    """Which hardening controls hold."""

    profile: str = key(
        text_matching("|".join(mailhost_hardening.PROFILES), f"one of {', '.join(mailhost_hardening.PROFILES)}"),
        "strict: the controls of priority 1 and 2; basic: those of priority 1",
        "strict",
    )
    disabled: dict[str, str] | None = key(
        optional(controls_off), "controls that do not fit this host, {id: reason}: the tracker shows them", None
    )
    enabled: tuple[str, ...] | None = key(
        optional(controls), "controls that are off by themselves and fit this host, e.g. [N13]", None
    )
    boot_password: str | None = key(
        optional(boot_password_hash),
        "what grub-mkpasswd-pbkdf2 prints of the password that root gives to change an entry of GRUB's menu (K07)",
        None,
        secret=True,
    )


# What a mail host serves: to everybody, and to the VPN only.
SERVICES = firewall_rules(
    [
        {"port": 25, "from": "public", "comment": "SMTP"},
        {"port": 465, "from": "public", "comment": "submission by TLS"},
        {"port": 587, "from": "public", "limited": True, "comment": "submission"},
        {"port": 80, "from": "public", "comment": "certificates by ACME"},
        {"port": 993, "from": "vpn", "comment": "IMAP by TLS"},
        {"port": 443, "from": "vpn", "comment": "web mail"},
        {"port": 5432, "from": "vpn", "comment": "PostgreSQL"},
    ]
)


@dataclasses.dataclass(frozen=True)
class Firewall:
    """What may come in besides SSH (ssh.port, by the VPN) and WireGuard (vpn.port)."""

    rules: tuple[dict[str, Any], ...] = key(
        firewall_rules,
        "what is let in besides ssh.port by the VPN and vpn.port; of services on the host and in containers alike",
        SERVICES,
    )
    prune: bool = key(flag, "whether rules of ufw that nobody declared are removed; else they are reported", False)


@dataclasses.dataclass(frozen=True)
class Recidive:
    """Who is banned again and again."""

    maxretry: int = key(whole(2, 100, "a number of bans"), "bans within findtime_minutes that lead to the long one", 3)
    findtime_minutes: int = key(minutes, "minutes over which the bans are counted", 1440)
    bantime_minutes: int = key(minutes, "minutes of the long ban; no ban lasts longer", 10080)


@dataclasses.dataclass(frozen=True)
class Fail2ban:
    """Who fails to log in by SSH, and for how long he is kept out."""

    recidive: Recidive = section(Recidive, "who is banned again and again")
    maxretry: int = key(whole(1, 100, "a number of failed logins"), "failed logins within findtime_minutes: a ban", 3)
    findtime_minutes: int = key(minutes, "minutes over which failed logins are counted", 10)
    bantime_minutes: int = key(minutes, "minutes of the first ban; each further one is twice as long", 60)
    ignore: tuple[str, ...] = key(
        networks, "addresses and networks that are never banned, besides loopback and the VPN", ()
    )


# What an instance, a region or a plan is called by Vultr's API.
vultr_id = text_matching(r"[a-z0-9][a-z0-9-]{1,62}", "an id of Vultr's (small letters, digits and dashes)")
# One line that a person reads.
title = text_matching(r"[^\x00-\x1f\x7f]{1,100}", "a text of one line, 100 characters at most")


def tags(value: Any) -> tuple[str, ...]:
    """Parse the list of an instance's tags."""
    if not isinstance(value, (list, tuple)):
        raise Invalid(f"{value!r} is not a list of tags")
    return tuple(map(title, value))


@dataclasses.dataclass(frozen=True)
class Provision:
    """The VPS: what `make provision` orders at Vultr, and what any host must be at least."""

    plan: str = key(vultr_id, "Vultr's plan", "vc2-2c-4gb")
    region: str = key(vultr_id, "Vultr's region", "dfw")
    image: str = key(title, "Vultr's image, by its name", "Debian 13 x64 (trixie)")
    label: str | None = key(
        optional(title),
        "the instance's label; null: the host's name in the roster and the environment, mail-prod",
        None,
    )
    tags: tuple[str, ...] = key(tags, "tags of the instance besides mailhost, by which it is known", ())
    backups: str | None = key(
        optional(text_matching("daily|weekly|monthly", "daily, weekly, monthly or null")),
        "how often Vultr makes a backup of the whole disk; null: not at all",
        "daily",
    )
    firewall_group: str | None = key(
        optional(title), "description of a firewall group of Vultr's that the instance is put into, or null", None
    )
    resize: bool = key(flag, "whether an instance of another plan is resized; else that is only proposed", False)
    snapshot: bool = key(flag, "whether Vultr takes a snapshot before the instance is resized", True)
    api_key_file: str | None = key(
        optional(text_matching(r"(~|)/[^\x00-\x1f]+", "the path of a file")),
        "file of yours alone (0600) with Vultr's API key; the variable VULTR_API_KEY goes before it",
        None,
    )
    cpus: int = key(whole(1, 512, "a number of CPUs"), "CPUs that the host has at least", 2)
    memory_gb: int = key(whole(1, 4096, "a number of GB"), "memory that the host has at least", 4)
    disk_gb: int = key(whole(1, 65536, "a number of GB"), "size of the host's disk at least", 80)


@dataclasses.dataclass(frozen=True)
class Quota:
    """What mail may take of the disk."""

    enabled: bool = key(flag, "whether disk quotas are switched on; else the command mailhost-quota does it", False)
    soft_gb: int = key(whole(1, 100000, "a number of gigabytes"), "what mail may take, passed for a week at most", 40)
    hard_gb: int = key(whole(1, 100000, "a number of gigabytes"), "what mail may never pass", 50)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where mail lies."""

    quota: Quota = section(Quota, "what mail may take of the disk")
    vmail_uid: int = key(
        whole(100, 59999, "a user id"), "user and group id of vmail, the account that all mail belongs to", 5000
    )


@dataclasses.dataclass(frozen=True)
class PostgresTls:
    """A certificate from elsewhere."""

    ca: str | None = key(optional(pem("CERTIFICATE")), "certificate of the authority that clients are to know", None)
    certificate: str | None = key(
        optional(pem("CERTIFICATE")), "the server's certificate, with those between it and the authority", None
    )
    key: str | None = key(optional(pem("PRIVATE KEY")), "the server's key", None, secret=True)


@dataclasses.dataclass(frozen=True)
class Postgres:
    """The database."""

    tls: PostgresTls = section(PostgresTls, "a certificate for the server; without one the host makes its own")
    image: str = key(
        container_image,
        "image of PostgreSQL 15 or later; with @sha256:… that very one. An image that is there is not fetched again",
        "postgres:17-trixie",
    )
    image_archive: str | None = key(
        optional(text_matching(r"/[^\s]+", "the path of a file")),
        "file on the host, made by docker save, to load the image from; null: it is fetched from its registry",
        None,
    )
    memory_mb: int = key(whole(256, 1048576, "a number of megabytes"), "memory that the container may take", 2048)
    cpus: float = key(decimal(0.1, 256, "a number of processors"), "processors that it may take", 1.5)


def database_password(value: Any) -> str:
    """Parse a role's password. It goes into URLs and password files, so it has no sign that means something there."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._~-]{16,128}", value):
        raise Invalid("is not a password of 16 to 128 letters, digits and . _ ~ -, as `openssl rand -hex 24` prints it")
    return value


def _role_password(role: str) -> Any:
    return key(
        optional(database_password),
        f"password of the role {role}; null: one is made on the host and stays there",
        None,
        secret=True,
    )


@dataclasses.dataclass(frozen=True)
class DatabasePasswords:
    """Passwords of the mail database's roles."""

    postfix: str | None = _role_password("postfix")
    dovecot: str | None = _role_password("dovecot")
    sogo: str | None = _role_password("sogo")
    mailadmin: str | None = _role_password("mailadmin")


@dataclasses.dataclass(frozen=True)
class Database:
    """The mail database."""

    passwords: DatabasePasswords = section(DatabasePasswords, "passwords of the roles that services log in with")
    test_data: bool = key(
        flag, "whether there is a domain with a user to try things on; never where mail is real", False
    )


time_of_day = text_matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day such as 02:00, in quotes")
days = whole(1, 3650, "a number of days")
program_path = text_matching(r"/[\w./-]+", "the path of a program on the host")


def cipher_pass(value: Any) -> str:
    """Parse the passphrase that backups are encrypted with; it stands in a file of keys and values."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/=._~-]{32,256}", value):
        raise Invalid("is not a passphrase of 32 to 256 letters, digits and + / = . _ ~ -: openssl rand -base64 48")
    return value


def host_keys(value: Any) -> tuple[str, ...]:
    """Parse the list of an SSH server's public keys: type and base64, as in files ending in .pub."""
    if not isinstance(value, (list, tuple)) or not value:
        raise Invalid("is not a list of an SSH server's public keys, as in its /etc/ssh/ssh_host_*_key.pub")
    return tuple(" ".join(public_key(line).split()[:2]) for line in value)


# What goes into a line of pgBackRest's settings as it is.
setting = text_matching(r"[^\s#;=\[\]]{1,255}", "a word without blanks and without # ; = [ ]")


def s3_endpoint(value: Any) -> str:
    """Parse where a service speaks S3: name, IPv4 or IPv6 address, the latter in brackets, and a port if need be."""
    text = value if isinstance(value, str) else ""
    with contextlib.suppress(ValueError):
        return f"[{ipaddress.IPv6Address(text)}]"
    if not re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", text):
        raise Invalid(f"{value!r} is not a name or address, with :port if need be; an IPv6 address stands in [ ] then")
    return text


@dataclasses.dataclass(frozen=True)
class Offsite:
    """A second repository of backups, on another machine."""

    type: str | None = key(
        optional(text_matching("sftp|s3", "sftp, s3 or null")),
        "sftp: a directory of an SSH server; s3: a bucket of a service that speaks S3; null: there is none",
        None,
    )
    path: str = key(
        text_matching(r"/[\w./-]*", "a path"), "directory on the server, or path in the bucket", "/mail-backups"
    )
    retention_days: int = key(days, "days of which any second can be restored from there", 30)
    cipher_pass: str | None = key(
        optional(cipher_pass),
        "what all that is there is encrypted with, for good; keep a copy elsewhere: without it nothing can be read",
        None,
        secret=True,
    )
    host: str | None = key(optional(setting), "sftp: the server's name or address", None)
    port: int = key(port, "sftp: the server's port", 22)
    user: str | None = key(optional(login_name), "sftp: whom to log in as", None)
    private_key: str | None = key(
        optional(pem("PRIVATE KEY")), "sftp: key to log in with, as ssh-keygen writes it", None, secret=True
    )
    host_keys: tuple[str, ...] | None = key(
        optional(host_keys), "sftp: the server's public keys, of each kind that it has; no other is talked to", None
    )
    endpoint: str | None = key(optional(s3_endpoint), "s3: name or address of the service, with :port if need be", None)
    bucket: str | None = key(optional(setting), "s3: the bucket", None)
    region: str | None = key(optional(setting), "s3: its region", None)
    uri_style: str = key(
        text_matching("path|host", "path or host"),
        "s3: path where the bucket stands behind the service's name, host where it stands before it",
        "path",
    )
    key_id: str | None = key(optional(setting), "s3: id of the access key", None)
    key_secret: str | None = key(
        optional(text_matching(r"[A-Za-z0-9+/=._~-]{1,255}", "a secret access key")),
        "s3: the access key's secret",
        None,
        secret=True,
    )
    ca: str | None = key(
        optional(pem("CERTIFICATE")), "s3: certificate of the authority to trust; null: those that Debian trusts", None
    )


@dataclasses.dataclass(frozen=True)
class Drill:
    """The daily restore that nobody asks for."""

    at: str = key(time_of_day, "when it runs each day", "04:00")
    max_age_hours: int = key(whole(1, 8760, "a number of hours"), "hours that a drill's proof is worth something", 30)
    memory_mb: int = key(whole(256, 1048576, "a number of megabytes"), "memory that the restored server may take", 1024)
    disk_gb: int = key(whole(1, 65536, "a number of GB"), "disk that the restored data may take", 20)
    offsite_days: int = key(
        whole(1, 90, "a number of days"), "days after which it is done from the second repository too", 7
    )


@dataclasses.dataclass(frozen=True)
class Alarms:
    """When `mailhost-pg check` warns; at twice that, or half of what is left, it is critical."""

    backup_age_hours: int = key(whole(1, 8760, "a number of hours"), "age of the newest base backup", 30)
    wal_age_minutes: int = key(minutes, "age of what was archived last", 15)
    pg_wal_mb: int = key(whole(64, 1048576, "a number of megabytes"), "size of WAL that is not archived yet", 1024)
    disk_free_percent: int = key(whole(1, 90, "a percentage"), "free room on the disks of data and archive", 20)
    textfile: str | None = key(
        optional(text_matching(r"/[\w./-]+\.prom", "the path of a file that ends in .prom")),
        "file for Prometheus' node exporter that each check writes, or null",
        None,
    )


@dataclasses.dataclass(frozen=True)
class Tail:
    """WAL as it is written, before its segment is full and archived."""

    enabled: bool = key(
        flag, "whether a receiver takes WAL as it is written, so that a loss of the data costs next to nothing", False
    )
    directory: str = key(
        text_matching(r"/(opt|srv|mnt|media)(/\w[\w.-]*)+", "the path of a directory below /opt, /srv, /mnt or /media"),
        "where to; on another disk than the data it outlives that disk",
        "/opt/postgres/wal_tail",
    )


@dataclasses.dataclass(frozen=True)
class Backup:
    """Backups of the database."""

    offsite: Offsite = section(Offsite, "a second repository on another machine")
    tail: Tail = section(Tail, "WAL as it is written, before its segment is archived")
    drill: Drill = section(Drill, "the daily restore that proves the backups")
    alarms: Alarms = section(Alarms, "when `mailhost-pg check` warns; at twice that it is critical")
    at: str = key(time_of_day, "when a base backup is made each day", "02:00")
    full_weekday: str = key(
        text_matching("Mon|Tue|Wed|Thu|Fri|Sat|Sun", "one of Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        "day of the full one; those of other days have what differs from it",
        "Sun",
    )
    retention_days: int = key(days, "days of which any second can be restored", 7)
    archive_timeout: int = key(
        whole(10, 300, "a number of seconds"), "seconds after which what was written is archived at the latest", 300
    )
    cipher_pass: str | None = key(
        optional(cipher_pass),
        "what backups on the host are encrypted with, for good; null: they are not",
        None,
        secret=True,
    )
    hook: str | None = key(
        optional(program_path), "program that is told when a backup, drill, verify or check failed, or null", None
    )


@dataclasses.dataclass(frozen=True)
class Pillar:
    """All of it."""

    provision: Provision = section(Provision, "the VPS: what is ordered at Vultr, and what any host is at least")
    access: Access = section(Access, "who may enter")
    docker: Docker = section(Docker, "where Docker comes from, and who may use it")
    ssh: Ssh = section(Ssh, "where sshd listens in the end")
    vpn: Vpn = section(Vpn, "the host's place in the VPN")
    network: Network = section(Network, "the host's names and resolvers")
    hardening: Hardening = section(Hardening, "which hardening controls hold")
    firewall: Firewall = section(Firewall, "what may come in")
    fail2ban: Fail2ban = section(Fail2ban, "who fails to log in by SSH, and for how long he is kept out")
    storage: Storage = section(Storage, "where mail lies")
    postgres: Postgres = section(Postgres, "the database")
    database: Database = section(Database, "the mail database")
    backup: Backup = section(Backup, "backups of the database, of base and WAL")


def parse(raw: Mapping[str, Any]) -> Pillar:
    """Return the pillar that ``raw`` describes, defaults filled in.

    Raises PillarErrors with all that is wrong: unknown keys, missing ones, values of the wrong kind, and values that
    contradict each other.
    """
    errors: list[str] = []
    parsed = _parse_section(Pillar, raw, "", errors)
    if not errors:
        errors = _contradictions(parsed)
    if errors:
        raise PillarErrors(errors)
    return parsed  # type: ignore[no-any-return]


def plain(pillar: Pillar) -> dict[str, Any]:
    """Return the pillar as plain dicts and lists, as states get it."""
    return _lists(dataclasses.asdict(pillar))  # type: ignore[no-any-return]


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _parse_section(kind: type, raw: Any, path: str, errors: list[str]) -> Any:
    if not isinstance(raw, Mapping):
        errors.append(f"{path.rstrip('.')}: {raw!r} is not a section of keys")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in raw:
        if name not in fields:
            errors.append(f"{path}{name}: no such key; here are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if "section" in field.metadata:
            values[name] = _parse_section(field.metadata["section"], raw.get(name, {}), f"{path}{name}.", errors)
        elif "sections" in field.metadata:
            values[name] = _parse_sections(field, raw.get(name, {}), f"{path}{name}", errors)
        elif name in raw:
            try:
                values[name] = field.metadata["parse"](raw[name])
            except Invalid as error:
                errors.append(f"{path}{name}: {error}")
        elif field.default is dataclasses.MISSING:
            errors.append(f"{path}{name}: is missing ({field.metadata['doc']})")
    return None if errors else kind(**values)


def _parse_sections(field: Any, raw: Any, path: str, errors: list[str]) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        errors.append(f"{path}: {raw!r} is not a mapping of names to sections of keys")
        return {}
    values = {}
    for name, inner in raw.items():
        try:
            parsed = field.metadata["name"](name)
        except Invalid as error:
            errors.append(f"{path}: {error}")
        else:
            values[parsed] = _parse_section(field.metadata["sections"], inner, f"{path}.{name}.", errors)
    return values


def _contradictions(pillar: Pillar) -> list[str]:
    """Return what is wrong between values that are each valid on their own."""
    found = []
    if pillar.access.admin.name == pillar.access.default_user:
        found.append(f"access.admin.name: {pillar.access.admin.name!r} is the account that access.default_user removes")
    if "root" in (pillar.access.admin.name, pillar.access.default_user):
        found.append("access: root can be neither the admin nor the account that is removed")
    if pillar.storage.quota.soft_gb > pillar.storage.quota.hard_gb:
        found.append("storage.quota.soft_gb: is more than storage.quota.hard_gb")
    if pillar.storage.vmail_uid == pillar.access.admin.uid:
        found.append("storage.vmail_uid: is access.admin.uid, so the admin would own all mail")
    if len({bool(value) for value in dataclasses.astuple(pillar.postgres.tls)}) > 1:
        found.append("postgres.tls: ca, certificate and key are given together or not at all")
    if bool(pillar.docker.repository) != bool(pillar.docker.repository_key):
        found.append("docker: repository and repository_key are given together or not at all")
    both = sorted(set(pillar.hardening.disabled or {}) & set(pillar.hardening.enabled or ()))
    found += [f"hardening.enabled: {name} is in hardening.disabled too" for name in both]
    if mailhost_hardening.BOOT in (pillar.hardening.enabled or ()) and not pillar.hardening.boot_password:
        found.append(f"hardening.enabled: {mailhost_hardening.BOOT} needs hardening.boot_password")
    return (
        found
        + _firewall_contradictions(pillar)
        + _vpn_contradictions(pillar.vpn)
        + _bans(pillar.fail2ban)
        + _network_contradictions(pillar)
        + _backup_contradictions(pillar)
    )


def _firewall_contradictions(pillar: Pillar) -> list[str]:
    """Return the rules that say again, or otherwise, what other sections say."""
    own = {
        (pillar.ssh.port, "tcp"): "ssh.port, let in by the VPN",
        (22, "tcp"): "SSH's first port, open while sshd listens there",
        (pillar.vpn.port, "udp"): "vpn.port, let in already",
    }
    return [
        f"firewall.rules: port {row['port']}/{row['protocol']} is {own[row['port'], row['protocol']]}"
        for row in pillar.firewall.rules
        if (row["port"], row["protocol"]) in own
    ]


# Where databases, archive and backups are, and the projects of Compose, as mailhost_storage has it.
TAKEN = ("/opt/postgres", "/opt/mail_server")
# What each kind of repository needs, and has.
OFFSITE = {
    "sftp": ("host", "user", "private_key", "host_keys"),
    "s3": ("endpoint", "bucket", "region", "key_id", "key_secret"),
}


def _backup_contradictions(pillar: Pillar) -> list[str]:
    """Return what is wrong about repository, place and image of backups."""
    offsite, found = pillar.backup.offsite, []
    for kind, names in OFFSITE.items():
        given = [name for name in names if getattr(offsite, name) is not None]
        if kind == offsite.type:
            found += [f"backup.offsite.{name}: is missing ({kind})" for name in names if name not in given]
        else:
            found += [f"backup.offsite.{name}: is for {kind}, which is not backup.offsite.type" for name in given]
    if offsite.ca and offsite.type != "s3":
        found.append("backup.offsite.ca: is for s3, which is not backup.offsite.type")
    if offsite.type and not offsite.cipher_pass:
        found.append("backup.offsite.cipher_pass: is missing: what leaves the host is encrypted")
    tail = pillar.backup.tail.directory
    if tail != Tail.directory and any(f"{tail}/".startswith(f"{taken}/") for taken in TAKEN):
        found.append(f"backup.tail.directory: {tail} is where the database's own directories are: take one elsewhere")
    major = mailhost_postgres.major_of_name(pillar.postgres.image)
    if major and (refused := mailhost_postgres.refuse_major(major, pillar.postgres.image)):
        found.append(refused)
    if "alpine" in pillar.postgres.image.partition("@")[0].rpartition(":")[2]:
        found.append(
            f"postgres.image: {pillar.postgres.image} is of Alpine, which apt cannot bring pgBackRest into: take one "
            "of Debian, such as postgres:17-trixie"
        )
    return found


def _network_contradictions(pillar: Pillar) -> list[str]:
    """Return what is wrong between the host's names and resolvers and the rest."""
    network, vpn, found = pillar.network, pillar.vpn, []
    inside = [ipaddress.ip_interface(address).network for address in (vpn.address, vpn.address6) if address]
    if network.resolvers and all(
        any(ipaddress.ip_address(resolver) in net for net in inside) for resolver in network.resolvers
    ):
        found.append("network.resolvers: all of them are inside the VPN, so lookups would end with the tunnel")
    if network.search and not network.resolvers:
        found.append("network.search: needs network.resolvers: without them the host's own settings stay")
    hostname = network.hostname or (network.fqdn or "").split(".")[0]
    if hostname in vpn.peers:
        found.append(f"vpn.peers.{hostname}: is the host's own name (network.hostname)")
    return found


def _vpn_contradictions(vpn: Vpn) -> list[str]:
    """Return what is wrong between the VPN's addresses and its peers'."""
    own: dict[int, Any] = {4: ipaddress.ip_interface(vpn.address)}
    if vpn.address6:
        own[6] = ipaddress.ip_interface(vpn.address6)
    found: list[str] = []
    keys: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, peer in vpn.peers.items():
        if peer.public_key in keys:
            found.append(f"vpn.peers.{name}.public_key: is that of {keys[peer.public_key]} too")
        keys[peer.public_key] = name
        for address in peer.addresses:
            network = ipaddress.ip_network(address)
            where = f"vpn.peers.{name}.addresses: {address}"
            face = own.get(network.version)
            if face is None:
                found.append(f"{where} is an IPv6 address, and vpn.address6 gives the host none")
            elif not network.subnet_of(face.network):
                found.append(f"{where} is outside the VPN's network {face.network}")
            elif network.network_address == face.ip and network.num_addresses == 1:
                found.append(f"{where} is the host's own address")
            elif address in taken:
                found.append(f"{where} belongs to {taken[address]} too")
            taken[address] = name
    return found


def _bans(declared: Fail2ban) -> list[str]:
    """Return what is wrong between the two kinds of bans."""
    recidive, found = declared.recidive, []
    if recidive.bantime_minutes < declared.bantime_minutes:
        found.append("fail2ban.recidive.bantime_minutes: is shorter than fail2ban.bantime_minutes")
    # Each ban is twice as long as the one before, and who is banned cannot fail: so long do the bans take at least.
    shortest = declared.bantime_minutes * (2 ** (recidive.maxretry - 1) - 1)
    if recidive.findtime_minutes <= shortest:
        found.append(
            f"fail2ban.recidive.findtime_minutes: {recidive.maxretry} bans take more than {shortest} minutes, so "
            "nobody would ever be banned again and again"
        )
    return found
