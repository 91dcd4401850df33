#!py
"""The order of the milestones: every built task, in the registry's order."""

import mailhost_registry


def run():
    """Apply all tasks to the host, whichever it is."""
    return {"base": {"*": [task.sls for task in mailhost_registry.built()]}}
