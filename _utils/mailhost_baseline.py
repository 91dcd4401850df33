"""What the hardening controls come to on a host: files, services, packages and the like. Pure.

Which control sets what is mailhost_hardening's table; here is how it gets onto a Debian host.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mailhost_hardening import CONTROLS, EDITED, Control, settings

# Programs of Debian that give their caller somebody else's rights: what auditd records the use of.
PRIVILEGED = (
    "/usr/bin/at",
    "/usr/bin/chacl",
    "/usr/bin/chage",
    "/usr/bin/chcon",
    "/usr/bin/chfn",
    "/usr/bin/chsh",
    "/usr/bin/crontab",
    "/usr/bin/docker",
    "/usr/bin/expiry",
    "/usr/bin/fusermount3",
    "/usr/bin/gpasswd",
    "/usr/bin/mount",
    "/usr/bin/newgrp",
    "/usr/bin/passwd",
    "/usr/bin/pkexec",
    "/usr/bin/setfacl",
    "/usr/bin/ssh-agent",
    "/usr/bin/su",
    "/usr/bin/sudo",
    "/usr/bin/umount",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
    "/usr/lib/openssh/ssh-keysign",
    "/usr/sbin/unix_chkpwd",
    "/usr/sbin/usermod",
)


@dataclass(frozen=True)
class File:
    """A file that controls put in place: its template is ``salt://hardening/files/<template>``.

    It holds the settings of one ``kind``, or is there as long as one of ``controls`` is on; ``ours`` says whether it
    goes when they are off. ``package`` brings its directory.
    """

    path: str
    template: str
    kind: str = ""
    controls: tuple[str, ...] = ()
    mode: str = "0644"
    check: tuple[str, ...] = ()
    package: str = ""
    ours: bool = True


FILES: tuple[File, ...] = (
    File("/etc/modprobe.d/90-mailhost.conf", "modprobe.conf", kind="module"),
    # Of Debian's name: its file of that name allows dumps again.
    File("/etc/security/limits.d/10-coredump-debian.conf", "limits.conf", kind="limits", ours=False),
    File("/etc/systemd/coredump.conf.d/90-mailhost.conf", "coredump.conf", kind="coredump"),
    File("/etc/profile.d/90-mailhost-coredump.sh", "coredump.sh", controls=("K05",)),
    File("/etc/systemd/timesyncd.conf.d/90-mailhost.conf", "timesyncd.conf", kind="timesyncd"),
    File("/etc/sudoers.d/80-hardening", "80-hardening", kind="sudo", mode="0440", check=("visudo", "-cf")),
    File("/etc/logrotate.d/sudo-log", "sudo-log", controls=("A02",)),
    File("/usr/share/pam-configs/mailhost-faillock-first", "mailhost-faillock-first", controls=("A04",)),
    File("/usr/share/pam-configs/mailhost-faillock", "mailhost-faillock", controls=("A04",)),
    File("/usr/share/pam-configs/mailhost-pwhistory", "mailhost-pwhistory", controls=("A05",)),
    File("/usr/share/pam-configs/mailhost-unix", "mailhost-unix", controls=("A05",)),
    File("/etc/profile.d/90-mailhost.sh", "90-mailhost.sh", controls=("A07",)),
    File("/etc/cron.allow", "cron.allow", controls=("A09",), mode="0600"),
    File("/etc/at.allow", "cron.allow", controls=("A09",), mode="0600"),
    File("/etc/issue", "banner", controls=("A12",), ours=False),
    File("/etc/issue.net", "banner", controls=("A12",), ours=False),
    File("/etc/motd", "banner", controls=("A12",), ours=False),
    File("/etc/systemd/system/auditd.service.d/90-mailhost.conf", "audit-condition.conf", controls=("V06",)),
    File("/etc/systemd/system/audit-rules.service.d/90-mailhost.conf", "audit-condition.conf", controls=("V06",)),
    File("/etc/systemd/system/sysctl-reapply-network.service", "sysctl-reapply-network.service", controls=("N11",)),
    File("/etc/apt/apt.conf.d/90mailhost", "apt.conf", kind="apt"),
    File("/etc/needrestart/conf.d/90-mailhost.conf", "needrestart.conf", controls=("V03",), package="needrestart"),
    File(
        "/etc/audit/rules.d/audit.rules",
        "audit-first.rules",
        controls=("V06",),
        mode="0600",
        package="auditd",
        ours=False,
    ),
    File("/etc/audit/rules.d/90-mailhost.rules", "audit.rules", controls=("V06",), mode="0600", package="auditd"),
    File("/etc/systemd/system/mailhost-aide-init.service", "mailhost-aide-init.service", controls=("V08",)),
    File("/etc/aide/aide.conf.d/99_mailhost", "99_mailhost", controls=("V08",), package="aide-common"),
)

# Directories that Debian does not make.
DIRECTORIES = (
    "/etc/systemd/coredump.conf.d",
    "/etc/systemd/timesyncd.conf.d",
    "/etc/systemd/system/auditd.service.d",
    "/etc/systemd/system/audit-rules.service.d",
)

# Which package brings paths that controls give owners and modes, where a control installs it.
CRON = ("d", "hourly", "daily", "weekly", "monthly", "yearly")
BRINGS = dict.fromkeys(("/etc/crontab", *(f"/etc/cron.{which}" for which in CRON)), "cron-daemon-common")

# The source that is written where none names Debian's security archive.
SOURCE = "/etc/apt/sources.list.d/mailhost-security.sources"


def wanted_files(controls: Iterable[Control]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the files of these controls, as ``mailhost_file.managed`` takes them: before and after the packages."""
    controls = tuple(controls)
    early: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    for file in filter(lambda file: _wanted(file, controls), FILES):
        context = {"settings": settings(controls, file.kind), "privileged": list(PRIVILEGED)}
        (late if file.package else early).append(
            {
                "name": file.path,
                "source": f"salt://hardening/files/{file.template}",
                "context": context,
                "mode": file.mode,
                "check": list(file.check),
                "package": file.package,
            }
        )
    return early, late


def directories(controls: Iterable[Control]) -> list[str]:
    """Return the directories that Debian does not make and that the files of these controls need."""
    controls = tuple(controls)
    needed = {file.path.rpartition("/")[0] for file in FILES if _wanted(file, controls)}
    return [path for path in DIRECTORIES if path in needed]


def unwanted_files(controls: Iterable[Control]) -> list[str]:
    """Return the paths of our own files that none of these controls wants."""
    controls = tuple(controls)
    return [file.path for file in FILES if file.ours and not _wanted(file, controls)]


def _wanted(file: File, controls: tuple[Control, ...]) -> bool:
    """Whether one of the controls wants a file: by name, or with a setting that it holds."""
    return bool(settings(controls, file.kind)) or any(control.id in file.controls for control in controls)


@dataclass(frozen=True)
class Service:
    """A unit that a control lets run: what brings it, after which files' change it is started anew, what it makes."""

    unit: str
    control: str
    package: str | None = None
    files: tuple[str, ...] = ()
    done: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return what ``mailhost_service.running`` takes."""
        return {"name": self.unit, "package": self.package, "restart_after": list(self.files), "done": self.done}


SERVICES: tuple[Service, ...] = (
    Service("sysctl-reapply-network.service", "N11"),
    Service("apt-daily.timer", "V02"),
    Service("apt-daily-upgrade.timer", "V02"),
    Service(
        "auditd.service",
        "V06",
        "auditd",
        ("/etc/audit/rules.d", "/etc/audit/auditd.conf"),
    ),
    Service("apparmor.service", "V07", "apparmor"),
    Service("dailyaidecheck.timer", "V08", "aide-common"),
    Service("mailhost-aide-init.service", "V08", done="/var/lib/aide/aide.db"),
    Service("rsyslog.service", "V09", "rsyslog"),
    Service("systemd-journald.service", "V09", None, ("/etc/systemd/journald.conf",)),
    Service("sysstat-collect.timer", "V11", "sysstat"),
    Service("sysstat-summary.timer", "V11", "sysstat"),
    Service("sysstat.service", "V11", "sysstat"),
    Service("systemd-timesyncd.service", "V10", "systemd-timesyncd", ("/etc/systemd/timesyncd.conf.d",)),
)

SUBJECTS = ("net", "kernel", "fs", "dev", "vm")


def edits(controls: Iterable[Control]) -> list[dict[str, Any]]:
    """Return the lines that are set in Debian's own files, as ``mailhost_file.settings`` takes them."""
    controls = tuple(controls)
    return [
        {
            "name": edited.path,
            "values": settings(controls, kind),
            "separator": edited.separator,
            "package": edited.package,
        }
        for kind, edited in EDITED.items()
    ]


def access(controls: Iterable[Control]) -> dict[str, str]:
    """Return owner, group and mode by path, but for the controls' own files, which have theirs already."""
    controls = tuple(controls)
    files = {file.path for file in FILES if _wanted(file, controls)}
    return {path: value for path, value in settings(controls, "access").items() if path not in files}


def profiles(controls: Iterable[Control]) -> tuple[list[str], list[str]]:
    """Return which profiles PAM holds with these controls, and which not: Debian's own where a control is off."""
    on = settings(controls, "pam")
    inverse = {"enabled": "disabled", "disabled": "enabled"}
    wanted = {name: on.get(name, inverse[value]) for name, value in settings(CONTROLS, "pam").items()}
    if "pwquality" not in on:
        del wanted["pwquality"]  # a package's own: its presence is not ours to judge
    return (
        [name for name, value in wanted.items() if value == "enabled"],
        [name for name, value in wanted.items() if value == "disabled"],
    )


def packages(controls: Iterable[Control], state: str) -> list[str]:
    """Return the packages that are installed, or gone, with these controls."""
    return sorted(name for name, value in settings(controls, "package").items() if value == state)


def sysctls(controls: Iterable[Control]) -> dict[str, dict[str, str]]:
    """Return the kernel's settings by file: one for each subject, the first word of the keys."""
    found = settings(controls, "sysctl")
    return {
        f"/etc/sysctl.d/90-mailhost-{subject}.conf": {
            name: value for name, value in found.items() if name.startswith(f"{subject}.")
        }
        for subject in SUBJECTS
    }
