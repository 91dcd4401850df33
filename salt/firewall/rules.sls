#!py
"""1.5.1 The firewall lets in what is declared and nothing else (before: configure_ufw_firewall)."""

import mailhost_docker
import mailhost_firewall
from mailhost_sls import state, task


def run():
    """ufw's rules, its defaults, and the chain that holds Docker's published ports to the same matrix."""
    return task(
        __sls__,
        {
            "ufw is installed": state("mailhost_pkg.installed", packages=["ufw"]),
            "ufw: only what is declared comes in": state(
                "mailhost_firewall.declared",
                admin=__pillar__["access"]["admin"]["name"],
                **mailhost_firewall.declared(__pillar__),
            ),
            "Docker: its rules are in the kernel": state("mailhost_firewall.docker_hooked", name=mailhost_docker.UNIT),
        },
    )
