#!py
"""1.2.6 Docker and Compose are there, and containers outlast the daemon (before: install_docker)."""

import os

import mailhost_docker
from mailhost_sls import state, task


def run():
    """The daemon's file stands before the package: Debian starts Docker at once, and must not start it without."""
    docker, admin = __pillar__["docker"], __pillar__["access"]["admin"]["name"]
    return task(
        __sls__,
        {
            "Docker: where it comes from": state(
                "mailhost_docker.source",
                name=mailhost_docker.SOURCE,
                repository=docker["repository"],
                repository_key=docker["repository_key"],
            ),
            "Docker is configured": state("mailhost_docker.configured", name=mailhost_docker.CONFIG),
            "Docker: a directory for its containers' drop-in": state(
                "mailhost_file.directories", paths={os.path.dirname(mailhost_docker.SCOPES): "root:root 0755"}
            ),
            "Docker: containers are stopped at a shutdown": state(
                "mailhost_file.managed", name=mailhost_docker.SCOPES, source="salt://docker/files/mailhost.conf"
            ),
            "Docker is installed": state("mailhost_pkg.installed", packages=mailhost_docker.packages(docker)),
            "Docker runs": state(
                "mailhost_service.running",
                name=mailhost_docker.UNIT,
                package=mailhost_docker.packages(docker)[0],
                restart_after=[mailhost_docker.CONFIG, mailhost_docker.SCOPES],
            ),
            "group docker": state("mailhost_docker.group", admin=admin, member=docker["admin_in_group"]),
        },
    )
