#!py
"""1.3.1 The controls of the host's hardening profile hold (seed: system_hardening)."""

import mailhost_hardening as hardening
from mailhost_sls import state, task


def run():
    """One state for each kind of thing; which controls are on, and what they set, is mailhost_hardening's table."""
    on = hardening.active(__pillar__["hardening"])
    ids = {control.id for control in on}
    values = {kind: hardening.settings(on, kind) for kind in hardening.KINDS}
    packages = values["package"]
    files = {True: {}, False: {}}
    for file, held in hardening.wanted_files(on):
        files[bool(file.package)][f"{file.path} is as its controls say"] = state(
            "mailhost_file.managed",
            name=file.path,
            source=f"salt://hardening/files/{file.template}",
            context={"settings": held, "privileged": hardening.PRIVILEGED},
            group=file.group,
            mode=file.mode,
            check=list(file.check),
            package=file.package,
        )
    ...
