"""External pillar: refuses what is not valid before any state runs, and fills in the defaults.

An external pillar is the one place of Salt that sees the merged pillar of the host before it is used.
"""

import os

import mailhost_environment
import mailhost_pillar

# What only the workstation's own runs get: the key of pillar/<environment>/provider.sls, and what was typed to make.
PROVIDER_KEY = "vultr_api_key"
LOCAL = (PROVIDER_KEY, "typed")


def ext_pillar(minion_id, pillar):
    """Return the parsed pillar with every key present, or ``_errors`` with a sentence for each thing that is wrong.

    minion_id
        The host's id in the roster.
    pillar
        What pillar/top.sls and the files it names gave.
    """
    try:
        environment = mailhost_environment.of_run(__opts__, os.environ, __grains__)
        # With pillarenv= Salt compiles a second time, on top of what came out of the first: of the same environment.
        files = {name: value for name, value in pillar.items() if (name, value) != ("environment", environment)}
        if __opts__.get("mailhost_workstation"):
            files = {name: value for name, value in files.items() if name not in LOCAL}
        if PROVIDER_KEY in files:
            return {
                "_errors": [f"{PROVIDER_KEY}: the host would get it: it belongs into pillar/{environment}/provider.sls"]
            }
        parsed = mailhost_pillar.plain(mailhost_pillar.parse(files))
    except mailhost_environment.UnknownEnvironment as error:
        return {"_errors": [str(error)]}
    except mailhost_pillar.PillarErrors as error:
        return {"_errors": error.sentences}
    return {**parsed, "environment": environment}
