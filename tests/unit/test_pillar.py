"""A pillar that is not valid is refused with a sentence for each thing that is wrong, beginning with its path."""

import copy
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailhost_pillar
from compiled import GOOD, KEY, ROOT


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good pillar with one key set."""
    pillar = copy.deepcopy(GOOD)
    inner: dict[str, Any] = pillar
    *sections, name = path.split(".")
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = value
    return pillar


def sentences(pillar: Any) -> list[str]:
    with pytest.raises(mailhost_pillar.PillarErrors) as caught:
        mailhost_pillar.parse(pillar)
    return caught.value.sentences


def test_defaults_are_filled_in() -> None:
    pillar = mailhost_pillar.parse(GOOD)
    assert pillar.access.admin.name == "phalkonadmin"
    assert pillar.access.admin.ssh_keys == (KEY,)
    assert pillar.ssh.port == 2288
    assert mailhost_pillar.plain(pillar)["access"]["admin"]["ssh_keys"] == [KEY]


def test_a_plain_pillar_parses_to_itself() -> None:
    pillar = mailhost_pillar.parse(GOOD)
    assert mailhost_pillar.parse(mailhost_pillar.plain(pillar)) == pillar


def test_the_example_is_valid_and_has_every_key() -> None:
    example = yaml.safe_load((ROOT / "pillar.example").read_text(encoding="utf-8"))
    parsed = mailhost_pillar.plain(mailhost_pillar.parse(example))
    assert keys(example) == keys(parsed)


def keys(section: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for name, value in section.items():
        found |= keys(value, f"{path}{name}.") if isinstance(value, dict) and value else {f"{path}{name}"}
    return found


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("access.admin.ssh_keys", [], "access.admin.ssh_keys: is empty: put at least one public key in, or nobody can log in"),
        ("access.admin.ssh_keys", KEY, "access.admin.ssh_keys: is not a list of public keys"),
        ("access.admin.ssh_keys", ["ssh-ed25519 ???"], "access.admin.ssh_keys: 'ssh-ed25519 ???' is a damaged public key: its second word is not base64"),
        ("access.admin.ssh_keys", ["ssh-dss AAAA x"], "access.admin.ssh_keys: 'ssh-dss AAAA x' is not a public key as in a file ending in .pub"),
        ("access.admin.ssh_keys", [KEY.replace("ssh-ed25519", "ssh-rsa")], f"access.admin.ssh_keys: '{KEY.replace('ssh-ed25519', 'ssh-rsa')}' is a damaged public key: its two halves do not belong together"),
        ("access.admin.ssh_keys", [KEY, KEY + " again"], "access.admin.ssh_keys: names a key twice"),
        ("access.admin.name", "Ada Lovelace", "access.admin.name: 'Ada Lovelace' is not a login name (small letters, digits, _ and -, 32 at most)"),
        ("access.admin.name", "linuxuser", "access.admin.name: 'linuxuser' is the account that access.default_user removes"),
        ("access.admin.name", "root", "access: root can be neither the admin nor the account that is removed"),
        ("access.admin.uid", "1000", "access.admin.uid: '1000' is not a user id of Debian's range for people from 1000 to 59999"),
        ("access.admin.uid", True, "access.admin.uid: True is not a user id of Debian's range for people from 1000 to 59999"),
        ("access.admin.shell", "bash", "access.admin.shell: 'bash' is not the path of a shell"),
        ("access.admin.shell", "/usr/sbin/nologin", "access.admin.shell: /usr/sbin/nologin ends every login, and this is the one account that people log in with"),
        ("access.admin.shell", "/bin/false", "access.admin.shell: /bin/false ends every login, and this is the one account that people log in with"),
        ("access.admin.ssh_keys", ["ssh-ed25519 AAAA… x"], "access.admin.ssh_keys: 'ssh-ed25519 AAAA… x' is a damaged public key: its second word is not base64"),
        ("access.confirm_minutes", 0, "access.confirm_minutes: 0 is not a number of minutes from 1 to 60"),
        ("access.admin.colour", "red", "access.admin.colour: no such key; here are ssh_keys, name, uid, shell, password_hash"),
        ("access", "open", "access: 'open' is not a section of keys"),
        ("ssh.port", 70000, "ssh.port: 70000 is not a port number from 1 to 65535"),
        ("vpn.address", "10.1", "vpn.address: '10.1' is not an address with a prefix length"),
        ("vpn.address", "10.1.2.300/24", "vpn.address: '10.1.2.300/24' is not an address with a prefix length"),
        ("vpn.address", "10.100.0.0/24", "vpn.address: '10.100.0.0/24' is the network's own address, not a host's"),
        ("vpn.address", "fd00::1/64", "vpn.address: 'fd00::1/64' is not an IPv4 address"),
        ("vpn.address6", "10.0.0.1/24", "vpn.address6: '10.0.0.1/24' is not an IPv6 address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(path: str, value: Any, sentence: str) -> None:
    assert sentences(changed(path, value)) == [sentence]


def test_a_missing_key_says_what_it_is_for() -> None:
    assert sentences({}) == [
        "access.admin.ssh_keys: is missing (public keys that may log in as the admin: exactly these)"
    ]


def test_everything_wrong_is_said_at_once() -> None:
    pillar = changed("ssh.port", 0)
    pillar["surplus"] = 1
    pillar["access"]["admin"]["uid"] = "x"
    assert [sentence.split(":")[0] for sentence in sentences(pillar)] == ["surplus", "access.admin.uid", "ssh.port"]


@pytest.mark.parametrize("value", ["hunter2", "$1$abc$def", 98765])
def test_a_bad_password_hash_is_refused_without_being_said(value: Any) -> None:
    (sentence,) = sentences(changed("access.admin.password_hash", value))
    assert sentence.startswith("access.admin.password_hash: is not a password hash")
    assert str(value) not in sentence


def test_a_private_key_is_refused_without_being_said() -> None:
    (sentence,) = sentences(changed("access.admin.ssh_keys", ["-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0"]))
    assert "private key" in sentence
    assert "c2VjcmV0" not in sentence


@pytest.mark.parametrize(("bits", "refused"), [(2048, True), (3072, False)])
def test_an_rsa_key_that_sshd_would_refuse_is_refused_here(bits: int, refused: bool) -> None:
    """It is for logins to this host; what another machine shows as its own is not ours to choose."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    assert mailhost_pillar.host_keys([line]) == (line,)
    if not refused:
        assert mailhost_pillar.public_keys([line]) == (line,)
        return
    with pytest.raises(mailhost_pillar.Invalid, match="RSA key of less than 3072 bits"):
        mailhost_pillar.public_keys([line])


def test_a_damaged_rsa_key_is_refused() -> None:
    with pytest.raises(mailhost_pillar.Invalid, match="its second word is no RSA key"):
        mailhost_pillar.public_key("ssh-rsa AAAAB3NzaC1yc2EAAAAD")
