#!py
"""No instance at Vultr any more, and none in the roster. Applied on the workstation, by `make destroy`."""

from mailhost_sls import state


def run():
    """One state; the name is typed twice, and neither time left to a default."""
    typed, confirm = __pillar__.get("typed") or ["", ""]
    return {
        "the instance is gone": state(
            "mailhost_instance.absent",
            host=__grains__["id"],
            typed=[typed, confirm],
            provision=__pillar__["provision"],
            environment=__pillar__["environment"],
        )
    }
