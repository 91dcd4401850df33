"""The VPN: the tunnel as declared, and its addresses unreachable by any other way."""

from salt.exceptions import CommandExecutionError

import mailhost_guard
import mailhost_vpn
from mailhost_result import explained, outcome

__all__ = ["fenced", "tunnel"]


@explained
def tunnel(name, vpn):
    """Let the interface be up as declared, now and after every boot.

    A private key that is there is kept; without one in the pillar and on the host, one is made here. That no peer has
    shaken hands is no failure.

    vpn
        The section of the pillar.
    """
    interface = vpn["interface"]
    found = __salt__["mailhost_vpn.look"](interface)
    if found["rotating"]:
        raise CommandExecutionError(
            f"{interface}: a new key is on trial; apply again when `systemctl status {mailhost_vpn.ROTATION}` is over"
        )
    if found["file"]["kind"] not in (None, "file"):
        raise CommandExecutionError(
            f"{mailhost_vpn.DIRECTORY}/{interface}.conf: is a {found['file']['kind']}, not a file"
        )
    for peer, declared in vpn["peers"].items():
        if found["device"] and found["device"]["public_key"] == declared["public_key"]:
            raise CommandExecutionError(f"vpn.peers.{peer}.public_key: is the host's own")
    key, source = mailhost_vpn.choose_key(vpn, found["file"].get("text"), found["device"])
    changes = mailhost_vpn.plan({"vpn": vpn, "private_key": key, "source": source}, found)
    if found["link"]:
        _refuse_deaf(vpn, found["link"])
    if changes and key and __opts__["test"]:
        __salt__["mailhost_vpn.tried"](interface, mailhost_vpn.configuration(vpn, key))
    if changes and __opts__["test"]:
        __salt__["mailhost_firewall.let_in"](vpn["port"], "udp", "WireGuard")

    def act():
        __salt__["mailhost_firewall.let_in"](vpn["port"], "udp", "WireGuard")
        text = mailhost_vpn.configuration(vpn, key or __salt__["mailhost_vpn.make_key"]())
        __salt__["mailhost_vpn.tried"](interface, text)
        _guarded(vpn, found["link"], lambda: __salt__["mailhost_vpn.apply"](vpn, text, changes))

    already = f"{interface} is up, public key {found['device'] and found['device']['public_key']}"
    return outcome((__opts__, __context__), name, changes, act, already)


def _refuse_deaf(vpn, link):
    """Refuse to take away the addresses that sshd answers on, as long as it answers on no other."""
    own, live = mailhost_vpn.bare(mailhost_vpn.addresses(vpn)), mailhost_vpn.bare(link["addresses"])
    if not set(live) - set(own):
        return
    answers = {address for address, _ in __salt__["mailhost_sshd.listening"]()}
    if answers and answers <= set(live) - set(own):
        raise CommandExecutionError(
            f"vpn.address: sshd answers on {', '.join(sorted(answers))} only, which {vpn['interface']} would lose; "
            "remove /etc/ssh/sshd_config.d/00-mailhost-listen.conf, `systemctl restart ssh`, and apply again"
        )


def _guarded(vpn, link, change):
    """Make a change of the tunnel; when this very run came in through it, as one that goes back unless confirmed."""
    own = mailhost_vpn.bare(mailhost_vpn.addresses(vpn))
    login = mailhost_guard.session()
    if login is None and link:
        # Its login has ended, and who knows by which way it came in.
        raise CommandExecutionError(
            f"{vpn['interface']}: is only changed by a run over ssh: nobody else can confirm it"
        )
    if login is None or login["address"] not in {*own, *mailhost_vpn.bare(link["addresses"] if link else [])}:
        change()
        return
    __salt__["mailhost_guard.commit"](
        f"{vpn['interface']} as declared",
        [mailhost_vpn.DIRECTORY],
        change,
        {"user": login["user"], "addresses": own, "port": login["port"]},
        units=[mailhost_vpn.unit(vpn["interface"])],
    )


@explained
def fenced(name, networks):
    """Let networks be unreachable while no tunnel leads to them, now and early in every boot.

    Without it what is meant for the VPN would follow the default route out to the internet whenever the tunnel is down.

    name
        The unit that makes the routes.
    networks
        The networks, IPv4 and IPv6.
    """
    enabled = __salt__["mailhost_service.look"](name)["enabled"]
    routes = __salt__["mailhost_vpn.unreachable"]()
    changes = {}
    if enabled != "enabled":
        changes["enabled"] = {"old": enabled, "new": "enabled"}
    if sorted(routes) != sorted(networks):
        changes["routes"] = {"old": ", ".join(routes) or None, "new": ", ".join(networks)}
    return outcome(
        (__opts__, __context__),
        name,
        changes,
        lambda: __salt__["mailhost_service.act"](name, "daemon-reload", "enable", "restart"),
        f"{', '.join(networks)} unreachable without the tunnel",
    )
