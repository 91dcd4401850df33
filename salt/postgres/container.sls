#!py
"""2.1.1 PostgreSQL runs in its container, for the VPN only, by TLS (before: deploy_postgresql_container)."""

import mailhost_backup
import mailhost_postgres as postgres
import mailhost_storage
from mailhost_sls import state, task


def run():
    """What could be refused comes first; then the files, and the container by them."""
    wanted, uid = __pillar__["postgres"], mailhost_storage.image_uid(__pillar__["postgres"]["image"])
    context = postgres.context(__pillar__, uid)
    image, backup = postgres.own_image(wanted["image"]), __pillar__["backup"]
    secret = {"user": str(uid), "mode": "0400", "secret": True}
    bind = {"net.ipv4.ip_nonlocal_bind": "1", "net.ipv6.ip_nonlocal_bind": "1"}
    return task(
        __sls__,
        {
            "PostgreSQL: what makes certificates": state("mailhost_pkg.installed", packages=["openssl"]),
            "PostgreSQL: its image is here": state(
                "mailhost_postgres.image", image=wanted["image"], archive=wanted["image_archive"], uid=uid
            ),
            "PostgreSQL: its backups stay what they are": state(
                "mailhost_backup.kept", encrypted=bool(backup["cipher_pass"])
            ),
            "PostgreSQL: a cluster of this host's own": state(
                "mailhost_postgres.cluster", image=wanted["image"], uid=uid
            ),
            "PostgreSQL: directories": state(
                "mailhost_file.directories",
                paths={
                    postgres.CONF: "root:root 0755",
                    postgres.TLS: "root:root 0755",
                    postgres.CA: "root:root 0700",
                    postgres.PGBACKREST: "root:root 0755",
                    postgres.SOCKETS: f"{uid}:root 0750",
                },
            ),
            "PostgreSQL: its certificate": state(
                "mailhost_postgres.certificate",
                subjects=postgres.names(__pillar__),
                uid=uid,
                given=wanted["tls"],
            ),
            # Gives a name to another image, by which the next boot starts: after all that is refused.
            "PostgreSQL: its image has pgBackRest": state("mailhost_postgres.built", image=image, base=wanted["image"]),
            "PostgreSQL: its addresses can be bound before they are there": state(
                "mailhost_sysctl.managed", files={"/etc/sysctl.d/90-mailhost-bind.conf": bind}
            ),
            "PostgreSQL: its socket's directory at every boot": state(
                "mailhost_file.managed",
                name=postgres.TMPFILES,
                source="salt://postgres/files/tmpfiles.conf",
                context=context,
            ),
            "PostgreSQL: its settings": state(
                "mailhost_file.together",
                name=postgres.CONF,
                sources={name: f"salt://postgres/files/conf/{name}" for name in postgres.FILES},
                context=context,
            ),
            **{
                f"PostgreSQL: pgBackRest's {title}": state(
                    "mailhost_file.managed",
                    name=f"{postgres.PGBACKREST}/{name}",
                    source=f"salt://postgres/files/{source}",
                    context={"stanza": postgres.STANZA, "only": only, **backup},
                    **secret,
                )
                for title, (name, source, only) in mailhost_backup.rendered(backup).items()
            },
            **{
                f"PostgreSQL: pgBackRest's {name}": state(
                    "mailhost_file.managed",
                    name=f"{postgres.PGBACKREST}/{name}",
                    source="salt://postgres/files/text",
                    context={"text": text},
                    **secret,
                )
                for name, text in mailhost_backup.secrets(backup).items()
            },
            "PostgreSQL: nothing left of another repository": state(
                "mailhost_file.absent", paths=mailhost_backup.strays(backup)
            ),
            "PostgreSQL: repositories for its WAL": state(
                "mailhost_backup.stanza", image=image, uid=uid, offsite=bool(backup["offsite"]["type"])
            ),
            "PostgreSQL: its Compose file": state(
                "mailhost_file.managed",
                name=postgres.COMPOSE,
                source="salt://postgres/files/compose.yaml",
                context=context,
            ),
            "PostgreSQL: its unit": state(
                "mailhost_file.managed",
                name=postgres.UNIT_FILE,
                source="salt://postgres/files/mailserver-postgres.service",
                context=context,
            ),
            "PostgreSQL runs": state("mailhost_postgres.running", image=image),
        },
    )
