#!py
"""1.3.1 The controls of the hardening profile hold (before: system_hardening)."""

import mailhost_baseline as baseline
import mailhost_boot
import mailhost_hardening as hardening
from mailhost_sls import state, task


def run():
    """A state for each kind of thing; which controls are on, and what they set, is mailhost_hardening's table."""
    on = hardening.active(__pillar__["hardening"])
    admin = __pillar__["access"]["admin"]["name"]
    ids = {control.id for control in on}
    of = {kind: hardening.settings(on, kind) for kind in hardening.KINDS}
    enabled, disabled = baseline.profiles(on)
    early, late = (
        {f"{file['name']}: as declared": state("mailhost_file.managed", **file) for file in files}
        for files in baseline.wanted_files(on)
    )
    edits = {f"{edit['name']}: its lines": state("mailhost_file.settings", **edit) for edit in baseline.edits(on)}
    services = {
        f"{service.unit}: runs": state("mailhost_service.running", **service.arguments())
        for service in baseline.SERVICES
        if service.control in ids
    }
    single = {
        "V01": ("apt: knows the security archive", state("mailhost_pkg.security_source", name=baseline.SOURCE)),
        "A09": ("accounts: nobody else reads their start-up files", state("mailhost_user.private_startup_files")),
        "A03": ("accounts: none that logs in by key ages", state("mailhost_user.ageless")),
    }
    only = {name: dict([row] if name in ids else []) for name, row in single.items()}
    directories = dict.fromkeys(baseline.directories(on), "root:root 0755")
    return task(
        __sls__,
        {
            "directories: those of drop-ins": state("mailhost_file.directories", paths=directories),
            **early,
            **only["V01"],
            "packages: none that are unsafe": state("mailhost_pkg.purged", packages=baseline.packages(on, "gone")),
            "packages: as declared": state("mailhost_pkg.installed", packages=baseline.packages(on, "installed")),
            "files: owners and modes": state(
                "mailhost_file.access", paths=baseline.access(on), packages=baseline.BRINGS
            ),
            **late,
            **edits,
            "groups: empty ones": state("mailhost_user.empty_groups", groups=list(of["group"])),
            "PAM: profiles": state("mailhost_pam.profiles", enabled=enabled, disabled=disabled),
            "files: none of a control that is off": state("mailhost_file.absent", paths=baseline.unwanted_files(on)),
            "kernel: settings": state("mailhost_sysctl.managed", files=baseline.sysctls(on)),
            "GRUB: the kernel's words, and who changes them": state(
                "mailhost_boot.menu",
                name=mailhost_boot.FILE,
                values=of["kernel"],
                password=__pillar__["hardening"]["boot_password"] if of["boot"] else None,
            ),
            "mounts: options": state("mailhost_mount.options", mounts=of["mount"]),
            **only["A03"],
            **only["A09"],
            **services,
            "sshd: settings of the profile": state(
                "mailhost_sshd.settings",
                name="/etc/ssh/sshd_config.d/00-mailhost-hardening.conf",
                declared=[[keyword, value] for keyword, value, _ in hardening.sshd(__pillar__)],
                admin=admin,
            ),
            "sshd: on its port": state(
                "mailhost_sshd.on_port",
                name="/etc/ssh/sshd_config.d/00-mailhost-port.conf",
                port=__pillar__["ssh"]["port"],
                admin=admin,
            ),
        },
    )
