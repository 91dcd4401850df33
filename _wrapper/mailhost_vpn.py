"""A peer's own configuration, made on the workstation: a peer's private key never comes near the host."""

import base64
import io

import segno
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from salt.exceptions import CommandExecutionError

import mailhost_endpoint
import mailhost_pillar
import mailhost_roster
import mailhost_vpn

__all__ = ["peer_config", "rotate_key"]

PLACEHOLDER = "<put your private key here>"


def peer_config(name, new_key=False, qr=False):
    """Print what a peer needs to reach the host, ready for its own wg-quick.

    A key that is made is printed once and kept nowhere: the configuration goes straight to standard output, past Salt,
    which would keep what a function returns below .salt/. What follows it are comments, so that all of it can be
    redirected into a file.

    name
        The peer's name in ``vpn.peers`` of the pillar; with a new key it need not be there yet.
    new_key
        Whether to make a key pair; the lines of the pillar with the public half are shown.
    qr
        Whether to print a QR code too, for the app of a phone.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.peer_config laptop new_key=True
    """
    try:
        name = str(name)
        vpn, own = _with_peer(dict(__pillar__["vpn"]), name, new_key)
        private, public = _pair() if new_key else (PLACEHOLDER, vpn["peers"][name]["public_key"])
        host = {
            "name": __opts__["id"],
            "public_key": __salt__["mailhost_vpn.public_key"](vpn["interface"]),
            "address": _public_address(__opts__["id"]),
        }
        text = mailhost_vpn.peer_configuration(vpn, name, host, private)
        code = _qr_code(text) if qr else ""
    except CommandExecutionError as error:
        __context__["retcode"] = 1
        return str(error)
    print(text + code, flush=True)
    said = [f"Its private key is the one whose public half is {public}."]
    if new_key:
        said = ["Put into the pillar and apply vpn.tunnel:", *mailhost_vpn.pillar_lines(name, public, own).splitlines()]
    return {"local": {"return": "\n".join(f"# {line}" for line in said), "out": "mailhost_text"}}


def rotate_key(seconds=60):
    """Give the host a new private key; the old one is back unless a peer shakes hands with the new one.

    Prints the new public half, which every peer must have. The tunnel's addresses stay, so connections through it only
    stand still between the host's change and the peer's.

    seconds
        Seconds until the host changes, ten at least: enough for this answer to arrive and for the peers to be told.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_vpn.rotate_key
    """
    vpn = __pillar__["vpn"]
    if vpn["private_key"]:
        __context__["retcode"] = 1
        return "vpn.private_key: the key is the pillar's: put a new one there and apply vpn.tunnel"
    if not isinstance(seconds, int) or seconds < 10:
        __context__["retcode"] = 1
        return f"seconds: {seconds!r} is not a whole number from 10"
    patience = __pillar__["access"]["confirm_minutes"]
    old = __salt__["mailhost_vpn.public_key"](vpn["interface"])
    new = __salt__["mailhost_vpn.try_key"](vpn["interface"], seconds, 60 * patience)
    return {
        "local": {
            "return": "\n".join(
                [
                    f"In {seconds} s the host's public key becomes {new}",
                    f"Change it in every peer's configuration (PublicKey, now {old}) at about that time.",
                    f"The old key is back {patience} min later unless a peer has shaken hands with the new one.",
                    f"To stop it: systemctl stop {mailhost_vpn.ROTATION} on the host.",
                ]
            ),
            "out": "mailhost_text",
        }
    }


def _with_peer(vpn, name, new_key):
    """Return the section of the pillar with the peer in it, and the addresses it got when it was not."""
    peer = vpn["peers"].get(name)
    if peer:
        if not mailhost_vpn.singles(peer):
            raise CommandExecutionError(f"vpn.peers.{name}.addresses: has no address of its own, only networks")
        return vpn, []
    if not new_key:
        known = ", ".join(sorted(vpn["peers"])) or "none"
        raise CommandExecutionError(f"vpn.peers: no {name}, there are {known}; with new_key=True one is made")
    try:
        mailhost_pillar.peer_name(name)
    except mailhost_pillar.Invalid as error:
        raise CommandExecutionError(str(error)) from None
    free = mailhost_vpn.free_addresses(vpn)
    own = [f"{address}/{128 if ':' in address else 32}" for address in free]
    made = {"addresses": own, "keepalive": None, "preshared_key": None}
    return {**vpn, "peers": {**vpn["peers"], name: made}}, free


def _pair():
    """Return a new private key and its public half, as wg(8) spells them."""
    key = X25519PrivateKey.generate()
    private = mailhost_vpn.clamped(base64.b64encode(key.private_bytes_raw()).decode())
    return private, base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _public_address(host_id):
    """Return the address of the roster by which a host is reached from anywhere."""
    entry = mailhost_roster.entries(__context__["master_opts"]["roster_file"])[host_id]
    return mailhost_endpoint.parse_host(host_id, entry).addresses[0]


def _qr_code(text):
    """Return a text as a QR code of characters."""
    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()
