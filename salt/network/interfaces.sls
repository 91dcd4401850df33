#!py
"""1.3.3 The host has its names, its resolvers answer, and its way out is up (before: verify_network_interfaces)."""

from mailhost_sls import state, task


def run():
    """The names first: a lookup of the host's own must not need a resolver."""
    network = __pillar__["network"]
    return task(
        __sls__,
        {
            "the host and the VPN have their names": state(
                "mailhost_network.named",
                hostname=network["hostname"],
                fqdn=network["fqdn"],
                vpn=__pillar__["vpn"],
            ),
            "lookups are answered by the declared resolvers": state(
                "mailhost_network.resolvers", resolvers=network["resolvers"], search=network["search"]
            ),
        },
    )
