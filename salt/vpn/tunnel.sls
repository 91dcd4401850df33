#!py
"""1.3.2 The WireGuard tunnel is up, and nothing leads to the VPN but the tunnel (before: install_wireguard)."""

import mailhost_vpn
from mailhost_sls import state, task


def run():
    """The tools, the routes that hold while the tunnel is down, and the tunnel."""
    vpn = __pillar__["vpn"]
    networks = mailhost_vpn.networks(mailhost_vpn.addresses(vpn))
    fence = "vpn-unreachable.service"
    return task(
        __sls__,
        {
            "WireGuard's tools are installed": state("mailhost_pkg.installed", packages=["wireguard-tools"]),
            "VPN addresses: the unit that keeps them off the default route": state(
                "mailhost_file.managed",
                name=f"/etc/systemd/system/{fence}",
                source=f"salt://vpn/files/{fence}",
                context={"networks": networks, "metric": mailhost_vpn.METRIC},
            ),
            "VPN addresses: off the default route": state("mailhost_vpn.fenced", name=fence, networks=networks),
            f"{vpn['interface']} is up": state("mailhost_vpn.tunnel", vpn=vpn),
        },
    )
