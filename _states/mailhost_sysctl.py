"""Kernel settings, exact in a dry run: what the kernel does not have or does not let us set is known beforehand."""

import mailhost_forecast
import mailhost_sysctl
from mailhost_result import explained, outcome

__all__ = ["managed"]


@explained
def managed(name, files):
    """Let kernel settings be as declared, now and after every boot.

    files
        Settings by file of sysctl.d(5) and key. ``*`` in a key stands for each network interface. A file with no
        settings is removed. Keys that this kernel does not have are not written, nor set.
    """
    keys = [key for settings in files.values() for key in settings]
    forecast = mailhost_forecast.applied(__context__, "sysctl", {})
    live = __salt__["mailhost_sysctl.read"](keys)
    if coming := mailhost_forecast.applied(__context__, "interfaces", {}):
        defaults = __salt__["mailhost_sysctl.read"]([key.replace("*", "default") for key in keys if "*" in key])
        live = mailhost_sysctl.with_interfaces(live, defaults, coming)
    live = mailhost_sysctl.foreseen(live, forecast)
    texts = {path: forecast.get(path, __salt__["mailhost_file.look"](path).get("text")) for path in files}
    changes, refused = mailhost_sysctl.plan(files, live, texts)
    if __opts__["test"]:
        known = mailhost_sysctl.known(files, live)
        for what, change in changes.items():
            after = mailhost_sysctl.text(known[what]) if what in files else change["new"]
            mailhost_forecast.note(__context__, "sysctl", what, after)

    def act():
        known = mailhost_sysctl.known(files, live)
        __salt__["mailhost_sysctl.put"](
            {key: change["new"] for key, change in changes.items() if key not in files},
            {path: mailhost_sysctl.text(known[path]) for path in files if path in changes},
        )

    already = f"{len(keys) - len(refused)} keys are as declared"
    if refused:
        already += f"; not here: {', '.join(f'{key} ({reason})' for key, reason in refused.items())}"
    return outcome((__opts__, __context__), name, changes, act, already)
