#!py
"""1.3.4 sshd answers on the VPN addresses only, from the boot on (before: configure_ssh_vpn_only)."""

import mailhost_vpn
from mailhost_sls import state, task


def run():
    """What lets sshd start before the tunnel is up and come back if it dies, the way back in, and then the move."""
    vpn, ssh = __pillar__["vpn"], __pillar__["ssh"]
    admin = __pillar__["access"]["admin"]["name"]
    unit = "/etc/systemd/system/ssh.service.d/mailhost-vpn.conf"
    addresses = mailhost_vpn.bare(mailhost_vpn.addresses(vpn))
    bind = {"net.ipv4.ip_nonlocal_bind": "1", "net.ipv6.ip_nonlocal_bind": "1"}
    context = {"interface": vpn["interface"], "addresses": addresses, "port": ssh["port"], "admin": admin}
    return task(
        __sls__,
        {
            "addresses can be bound before they are there": state(
                "mailhost_sysctl.managed", files={"/etc/sysctl.d/90-mailhost-bind.conf": bind}
            ),
            "sshd: a directory for its unit's drop-ins": state(
                "mailhost_file.directories", paths={"/etc/systemd/system/ssh.service.d": "root:root 0755"}
            ),
            "sshd: starts after the tunnel, and again if it dies": state(
                "mailhost_file.managed", name=unit, source="salt://ssh/files/mailhost-vpn.conf", context=context
            ),
            "sshd: runs by that unit": state("mailhost_service.running", name="ssh.service", restart_after=[unit]),
            "the sheet for the provider's console": state(
                "mailhost_file.managed",
                name="/root/RESCUE.md",
                source="salt://ssh/files/RESCUE.md",
                mode="0600",
                context=context,
            ),
            "sshd: bound to the VPN addresses": state(
                "mailhost_sshd.on_addresses",
                name="/etc/ssh/sshd_config.d/00-mailhost-listen.conf",
                addresses=addresses,
                port=ssh["port"],
                admin=admin,
                interface=vpn["interface"],
                peers=list(vpn["peers"]),
            ),
        },
    )
