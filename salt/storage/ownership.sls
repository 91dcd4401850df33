#!py
"""1.4.2 Mail is vmail's, databases are the container's user's (before: configure_directory_permissions)."""

import mailhost_storage
from mailhost_sls import state, task


def run():
    """Ids that clash are refused before anything is given away."""
    uid, vmail = mailhost_storage.image_uid(__pillar__["postgres"]["image"]), __pillar__["storage"]["vmail_uid"]
    return task(
        __sls__,
        {
            "vmail exists": state("mailhost_storage.vmail", uid=vmail, postgres_uid=uid),
            "directories of mail and databases: whose they are": state(
                "mailhost_storage.owned", paths=mailhost_storage.owners(vmail, uid)
            ),
        },
    )
