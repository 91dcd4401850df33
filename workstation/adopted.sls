#!py
"""A host that is there already, in the roster. Applied on the workstation, by `make adopt`."""

from mailhost_sls import state


def run():
    """One state; address and fingerprint are what was typed."""
    address, fingerprint = __pillar__.get("typed") or ["", ""]
    pillar = {name: value for name, value in __pillar__.items() if name not in ("typed", "vultr_api_key")}
    return {
        f"{__grains__['id']} is in the roster": state(
            "mailhost_adopt.adopted",
            host=__grains__["id"],
            address=address,
            fingerprint=fingerprint,
            pillar=pillar,
        )
    }
