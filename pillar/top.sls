#!py
"""The one environment whose pillar is used; the others are not even read."""

import os

import mailhost_environment


def run():
    """Name the environment's own file, the encrypted one where there is one, and on the workstation the provider's."""
    try:
        environment = mailhost_environment.of_run(__opts__, os.environ, __grains__)
    except mailhost_environment.UnknownEnvironment:
        return {}  # _pillar/mailhost.py, which runs next, says what is wrong
    root = os.path.join(__opts__["pillar_roots"]["base"][0], environment)
    besides = ["encrypted", *(["provider"] if __opts__.get("mailhost_workstation") else [])]
    found = [f"{environment}.{name}" for name in besides if os.path.exists(os.path.join(root, f"{name}.sls"))]
    return {"base": {"*": [environment, *found]}}
