"""The hardening controls on a real host: each kind of thing spoilt, a reboot, and controls that are off."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout

from .conftest import Exact
from .tampering import Tamper, each

pytestmark = pytest.mark.lab

SLS = "hardening.baseline"

# A lab host has no boot loader: in its place stands what grub-mkconfig does with these files, which are GRUB's own.
GRUB = r"""
mkdir -p /boot/grub
echo 'GRUB_CMDLINE_LINUX="console=ttyS0,115200n8"' >/etc/default/grub
cat >/usr/sbin/update-grub <<'END'
#!/bin/sh -e
. /etc/default/grub
for file in /etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
printf '\tlinux\t/boot/vmlinuz root=/dev/vda1 ro %s\n' "$GRUB_CMDLINE_LINUX" >/boot/grub/grub.cfg
END
chmod 755 /usr/sbin/update-grub
update-grub
"""

TAMPERS = [
    Tamper("live sysctl", "sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.enp1s0.accept_source_route=1"),
    Tamper("sysctl file", "echo net.ipv4.tcp_syncookies=0 >>/etc/sysctl.d/90-mailhost-net.conf"),
    Tamper(
        "modes", "chmod 644 /etc/crontab /etc/skel/.profile; chmod 755 /etc/cron.d; chown 1000 /etc/ssh/sshd_config"
    ),
    Tamper("start-up file", "chmod 666 /home/phalkonadmin/.profile"),
    Tamper(
        "unsafe package is back", "apt-get update -q >/dev/null; apt-get install -qy telnet inetutils-telnet >/dev/null"
    ),
    Tamper("package is gone", "apt-get purge -qy needrestart debsums >/dev/null"),
    Tamper(
        "services",
        "systemctl disable --now apt-daily.timer sysstat.service; systemctl mask --now dailyaidecheck.timer;"
        "systemctl stop sysstat-collect.timer",
    ),
    Tamper("PAM by hand", "sed -i '/pam_faillock/d; s/pam_unix.so try/pam_unix.so nullok try/' /etc/pam.d/common-auth"),
    Tamper(
        "lines of Debian's files",
        "sed -i 's/^UMASK.*/UMASK 022/; /^YESCRYPT/d' /etc/login.defs;"
        "sed -i /pam_wheel/d /etc/pam.d/su; echo minlen = 6 >>/etc/security/pwquality.conf",
    ),
    Tamper(
        "journal",
        "sed -i s/^Storage=.*/Storage=volatile/ /etc/systemd/journald.conf;"
        "systemctl restart systemd-journald; systemctl stop rsyslog.service syslog.socket",
    ),
    Tamper("shared memory", "mount -o remount,exec /dev/shm; sed -i /shm/d /etc/fstab"),
    Tamper("accounts age", "chage -M 90 -I 30 phalkonadmin; groupdel sugroup"),
    Tamper("drop-ins", "rm -r /etc/systemd/coredump.conf.d; rm /etc/modprobe.d/90-mailhost.conf; echo x >>/etc/issue"),
    Tamper(
        "no security archive",
        "cd /etc/apt/sources.list.d; mv debian.sources /root/all;sed '/^$/,$d' /root/all >debian.sources",
    ),
    Tamper("apt", "echo 'Unattended-Upgrade::Automatic-Reboot \"true\";' >/etc/apt/apt.conf.d/90mailhost"),
]


@each(TAMPERS)
def test_what_was_spoilt_is_seen_predicted_and_repaired(
    converged: Host, checkout: Checkout, exact: Exact, tamper: Tamper
) -> None:
    _built(converged)
    converged.run(["sh", "-euc", tamper.script])
    found = exact(f"hardening: {tamper.id}", converged, checkout, SLS)
    assert found.made
    assert found.dry.marks["1.3.1"] == "[ ]"
    assert found.again.marks["1.3.1"] != "[ ]"


def test_controls_that_are_off_are_not_applied_and_shown(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    off = {"A05": "no passwords here", "A07": "shared files", "A10": "a test", "V06": "no auditing", "N10": "a test"}
    off["V08"] = "AIDE takes a minute to install"
    checkout.pillar({**checkout.good_pillar(fresh), "hardening": {"disabled": off}})
    before = fresh.run(["sysctl", "-n", "net.ipv4.conf.all.send_redirects"]).stdout
    exact("hardening: six controls off", fresh, checkout, SLS)
    assert fresh.run(["sysctl", "-n", "net.ipv4.conf.all.send_redirects"]).stdout == before
    assert "nullok" in fresh.read("/etc/pam.d/common-auth")
    assert "UMASK 027" not in fresh.read("/etc/login.defs")
    assert "noexec" not in fresh.run(["findmnt", "-no", "OPTIONS", "/dev/shm"]).stdout
    assert fresh.run(["dpkg-query", "-W", "auditd"], check=False).returncode != 0
    _, evidence = checkout.tracker()["1.3.1"]
    assert all(f"{name} ({reason})" in evidence for name, reason in off.items())


def test_a_control_that_is_switched_off_later_lets_go(converged: Host, checkout: Checkout, exact: Exact) -> None:
    off = {"A04": "a test", "A05": "a test", "A09": "crontabs of others", "N14": "a test"}
    checkout.pillar({**checkout.good_pillar(converged), "hardening": {"disabled": off}})
    found = exact("hardening: four controls switched off", converged, checkout, SLS)
    assert found.made
    common = converged.read("/etc/pam.d/common-auth")
    assert ("pam_faillock" in common, "nullok" in common) == (False, True)
    assert converged.run(["ls", "/etc/cron.allow", "/etc/modprobe.d/90-mailhost.conf"], check=False).stdout == ""


def test_the_boot_loader_s_own_words_stay(converged: Host, checkout: Checkout, exact: Exact) -> None:
    _built(converged)
    converged.run(["sh", "-euc", GRUB])
    found = exact("hardening: GRUB", converged, checkout, SLS)
    assert set(found.real.changed) == {"kernel: words at its start"}
    assert converged.read("/boot/grub/grub.cfg").endswith("console=ttyS0,115200n8 apparmor=1 security=apparmor\n")
    converged.run(["sh", "-euc", "rm /etc/default/grub.d/90-mailhost.cfg; update-grub"])
    run = checkout.apply(SLS, test=True)
    assert "V07: apparmor is not set, not 1, security is not set, not apparmor" in run["1.3.1 is proven"].comment


def test_a_reboot_keeps_everything(converged: Host, checkout: Checkout) -> None:
    _built(converged)
    converged.reboot(port=None)
    mark, evidence = checkout.tracker()["1.3.1"]
    assert mark != "[ ]", evidence
    assert not checkout.apply(SLS, test=True).changed
    assert "noexec" in converged.run(["findmnt", "-no", "OPTIONS", "/dev/shm"]).stdout
    assert converged.run(["sysctl", "-n", "net.ipv4.conf.enp1s0.send_redirects"]).stdout == "0\n"


def test_people_and_programs_still_work(converged: Host) -> None:
    """The admin's login and sudo, passwords with PAM's new rules, apt, and what a locked account is told."""
    host = converged
    assert host.ssh(["sudo", "-n", "id", "-u"], user="phalkonadmin", port=2288).stdout == "0\n"
    host.run(["apt-get", "update", "-q"])
    host.run(["apt-get", "install", "-qy", "tree"])
    host.run(["useradd", "-m", "eve"])
    weak = host.run(["sh", "-c", "printf 'password1\\npassword1\\n' | passwd eve"], check=False)
    assert weak.returncode != 0, weak.stdout
    host.run(["sh", "-c", "printf 'Correct9-horse_Battery\\nCorrect9-horse_Battery\\n' | passwd eve"])
    assert host.run(["passwd", "-S", "eve"]).stdout.split()[1] == "P"
    assert "$y$" in host.read("/etc/shadow")
    assert host.run(
        ["runuser", "-u", "eve", "--", "sh", "-c", "echo secret | su - root -c true"], check=False
    ).returncode


def _built(host: Host) -> None:
    """Wait until AIDE's first database is there: a shutdown in between would begin it anew."""
    host.run(["sh", "-c", "for i in $(seq 120); do [ -e /var/lib/aide/aide.db ] && exit; sleep 1; done; exit 1"])
