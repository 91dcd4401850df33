#!py
"""2.1.3 Backups and WAL can be restored to a second, and a drill proves it (before: configure_database_backups)."""

import mailhost_backup as backup
import mailhost_postgres
import mailhost_storage
from mailhost_sls import state, task


def run():
    """The operator's tool, its timers, and then what the timers would make first."""
    wanted, image = __pillar__["backup"], __pillar__["postgres"]["image"]
    uid, units, tail = mailhost_storage.image_uid(image), backup.units(wanted), wanted["tail"]
    taken = {
        "Backups: role and slot of WAL's receiver": state("mailhost_backup.streamed"),
        "Backups: where WAL is streamed to": state(
            "mailhost_file.directories", paths={tail["directory"]: f"{uid}:root 0750"}
        ),
        f"Backups: {backup.RECEIVER} runs": state(
            "mailhost_service.running",
            name=backup.RECEIVER,
            restart_after=[f"{backup.LIBRARY}/mailhost_pg", backup.SETTINGS, backup.RECEIVER_FILE],
        ),
    }
    not_taken = {
        "Backups: WAL is not streamed": state("mailhost_backup.not_streamed", directory=tail["directory"]),
    }
    server = {
        "image": mailhost_postgres.own_image(image),
        "uid": uid,
        "offsite": bool(wanted["offsite"]["type"]),
    }
    return task(
        __sls__,
        {
            "Backups: directories": state(
                "mailhost_file.directories",
                paths={
                    backup.LIBRARY: "root:root 0755",
                    f"{backup.LIBRARY}/mailhost_pg": "root:root 0755",
                    backup.STATE: "root:root 0750",
                },
            ),
            "Backups: the tool's code": state(
                "mailhost_file.together",
                name=f"{backup.LIBRARY}/mailhost_pg",
                sources={f"{name}.py": f"salt://backup/files/mailhost_pg/{name}.py" for name in backup.MODULES},
                verbatim=True,
            ),
            "Backups: the tool's settings": state(
                "mailhost_file.managed",
                name=backup.SETTINGS,
                source="salt://backup/files/mailhost-pg.json",
                context={"settings": backup.settings(__pillar__, uid)},
            ),
            "Backups: mailhost-pg": state(
                "mailhost_file.managed",
                name=backup.TOOL,
                source="salt://backup/files/mailhost-pg",
                context={"library": backup.LIBRARY},
                mode="0755",
            ),
            **{
                f"Backups: {unit}": state(
                    "mailhost_file.managed",
                    name=f"{backup.SYSTEMD}/{unit}",
                    source=f"salt://backup/files/units/{source}",
                    context=context,
                )
                for unit, (source, context) in units.items()
            },
            **(taken if tail["enabled"] else not_taken),
            "Backups: a base backup": state("mailhost_backup.backed_up", **server),
            "Backups: a restore drill": state("mailhost_backup.drilled", drill=wanted["drill"], **server),
            **{
                # With what it starts, and what is told of its failure: systemd reads all of them again.
                f"Backups: {unit} runs": state(
                    "mailhost_service.running",
                    name=unit,
                    restart_after=[
                        f"{backup.SYSTEMD}/{name}" for name in (unit, unit.replace(".timer", ".service"), backup.FAILED)
                    ],
                )
                for unit in units
                if unit.endswith(".timer")
            },
            "Backups: repositories answer": state("mailhost_backup.reached", **server),
        },
    )
