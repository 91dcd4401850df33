#!py
"""The one environment whose pillar is used; the others are not even read."""

import os

import mailhost_environment


def run():
    """Name the environment's own file, and the encrypted one where there is one."""
    try:
        environment = mailhost_environment.chosen(
            __opts__.get("argv") or [], os.environ, __grains__.get(mailhost_environment.GRAIN)
        )
    except mailhost_environment.UnknownEnvironment:
        return {}  # _pillar/mailhost.py, which runs next, says what is wrong
    files = [environment]
    if os.path.exists(os.path.join(__opts__["pillar_roots"]["base"][0], environment, "encrypted.sls")):
        files.append(f"{environment}.encrypted")
    return {"base": {"*": files}}
