#!py
"""The instance at Vultr, its address in the roster. Applied on the workstation, by `make provision`."""

from mailhost_sls import state


def run():
    """One state: what it needs of the provider it looks up itself."""
    return {
        "the instance is there, and the roster knows it": state(
            "mailhost_instance.present",
            host=__grains__["id"],
            provision=__pillar__["provision"],
            environment=__pillar__["environment"],
            ssh_keys=__pillar__["access"]["admin"]["ssh_keys"],
            hostname=__pillar__["network"]["fqdn"] or __pillar__["network"]["hostname"],
        )
    }
