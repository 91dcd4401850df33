#!py
"""1.4.1 The directories of mail, databases and Compose projects are there (before: create_mail_directories)."""

import mailhost_storage
from mailhost_sls import state, task


def run():
    """What is there stays as it is, with all that is in it."""
    return task(
        __sls__,
        {
            "directories of mail and databases": state("mailhost_storage.directories", paths=mailhost_storage.paths()),
        },
    )
