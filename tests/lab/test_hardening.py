"""The hardening controls on a real host: each kind of thing spoilt, a reboot, and controls that are off."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import AIDE_OFF, Checkout

from .conftest import Exact
from .tampering import Tamper, changes, each

pytestmark = pytest.mark.lab

SLS = "hardening.baseline"
GRUB_STATE = "GRUB: the kernel's words, and who changes them"

# A lab host has no boot loader: in its place stands what grub-mkconfig does with these files, which are GRUB's own.
GRUB = r"""
mkdir -p /boot/grub
echo 'GRUB_CMDLINE_LINUX="console=ttyS0,115200n8"' >/etc/default/grub
cat >/usr/sbin/update-grub <<'END'
#!/bin/sh -e
. /etc/default/grub
for file in /etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
{
    [ ! -x /etc/grub.d/01_mailhost ] || /etc/grub.d/01_mailhost
    printf '\tlinux\t/boot/vmlinuz root=/dev/vda1 ro %s\n' "$GRUB_CMDLINE_LINUX"
} >/boot/grub/grub.cfg
END
chmod 755 /usr/sbin/update-grub
update-grub
"""

# Several things at once, none in another's way: what each of them makes the states repair.
TAMPERS = [
    Tamper(
        "kernel settings, files of its own and of Debian's, accounts and PAM",
        "sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.enp1s0.accept_source_route=1;"
        "echo net.ipv4.tcp_syncookies=0 >>/etc/sysctl.d/90-mailhost-net.conf;"
        "chmod 644 /etc/crontab /etc/skel/.profile; chmod 755 /etc/cron.d; chown 1000 /etc/ssh/sshd_config;"
        "chmod 666 /home/phalkonadmin/.profile;"
        "rm -r /etc/systemd/coredump.conf.d; rm /etc/modprobe.d/90-mailhost.conf; echo x >>/etc/issue;"
        "sed -i '/pam_faillock/d; s/pam_unix.so try/pam_unix.so nullok try/' /etc/pam.d/common-auth;"
        "sed -i 's/^UMASK.*/UMASK 022/; /^YESCRYPT/d' /etc/login.defs;"
        "sed -i /pam_wheel/d /etc/pam.d/su; echo minlen = 6 >>/etc/security/pwquality.conf;"
        "chage -M 90 -I 30 phalkonadmin; groupdel sugroup",
        (
            "/etc/issue: as declared: content",
            "/etc/login.defs: its lines: content",
            "/etc/modprobe.d/90-mailhost.conf: as declared: file",
            "/etc/pam.d/su: its lines: content",
            "/etc/security/pwquality.conf: its lines: content",
            "/etc/systemd/coredump.conf.d/90-mailhost.conf: as declared: file",
            "PAM: profiles: profiles",
            "accounts: nobody else reads their start-up files: /home/phalkonadmin/.profile",
            "accounts: none that logs in by key ages: phalkonadmin",
            "directories: those of drop-ins: /etc/systemd/coredump.conf.d",
            "files: owners and modes: /etc/cron.d",
            "files: owners and modes: /etc/crontab",
            "files: owners and modes: /etc/skel/.profile",
            "files: owners and modes: /etc/ssh/sshd_config",
            "groups: empty ones: sugroup",
            "kernel: settings: /etc/sysctl.d/90-mailhost-net.conf",
            "kernel: settings: net.ipv4.conf.all.send_redirects",
            "kernel: settings: net.ipv4.conf.enp1s0.accept_source_route",
        ),
    ),
    Tamper(
        "packages, where they come from, services, journal and shared memory",
        "apt-get update -q >/dev/null; apt-get install -qy telnet inetutils-telnet >/dev/null;"
        "apt-get purge -qy needrestart debsums >/dev/null;"
        "systemctl disable --now apt-daily.timer sysstat.service; systemctl mask --now dailyaidecheck.timer;"
        "systemctl stop sysstat-collect.timer;"
        "cd /etc/apt/sources.list.d; mv debian.sources /root/all;sed '/^$/,$d' /root/all >debian.sources;"
        "echo 'Unattended-Upgrade::Automatic-Reboot \"true\";' >/etc/apt/apt.conf.d/90mailhost;"
        "sed -i s/^Storage=.*/Storage=volatile/ /etc/systemd/journald.conf;"
        "systemctl restart systemd-journald; systemctl stop rsyslog.service syslog.socket;"
        "mount -o remount,exec /dev/shm; sed -i /shm/d /etc/fstab",
        (
            "/etc/apt/apt.conf.d/90mailhost: as declared: content",
            "/etc/default/debsums: its lines: content",
            "/etc/needrestart/conf.d/90-mailhost.conf: as declared: file",
            "/etc/systemd/journald.conf: its lines: content",
            "apt-daily.timer: runs: active",
            "apt-daily.timer: runs: enabled",
            "apt: knows the security archive: source",
            "dailyaidecheck.timer: runs: active",
            "dailyaidecheck.timer: runs: enabled",
            "mounts: options: /dev/shm",
            "mounts: options: fstab",
            "packages: as declared: debsums",
            "packages: as declared: needrestart",
            "packages: none that are unsafe: inetutils-telnet",
            "packages: none that are unsafe: telnet",
            "rsyslog.service: runs: active",
            "sysstat-collect.timer: runs: active",
            "sysstat-collect.timer: runs: enabled",
            "sysstat-summary.timer: runs: enabled",
            "sysstat.service: runs: active",
            "sysstat.service: runs: enabled",
            "systemd-journald.service: runs: restarted",
        ),
    ),
]


@each(TAMPERS)
def test_what_was_spoilt_is_seen_predicted_and_repaired(
    converged: Host, checkout: Checkout, exact: Exact, tamper: Tamper
) -> None:
    _built(converged)
    converged.run(["sh", "-euc", tamper.script])
    found = exact(f"hardening: {tamper.id}", converged, checkout, SLS)
    assert changes(found.real) == set(tamper.expected)
    assert found.dry.marks["1.3.1"] == "[ ]"
    assert found.again.marks["1.3.1"] != "[ ]"


@pytest.mark.thorough("what a quicker test shows in part")
def test_modes_of_what_a_package_brings_again_are_foretold(hardened: Host, checkout: Checkout, exact: Exact) -> None:
    hardened.run(["sh", "-euc", "apt-get -qy purge cron cron-daemon-common >/dev/null"])
    found = exact("hardening: cron removed", hardened, checkout, SLS)
    paths = {f"files: owners and modes: {path}" for path in ("/etc/crontab", "/etc/cron.hourly")}
    assert changes(found.real) >= {"packages: as declared: cron", *paths}
    assert hardened.run(["stat", "-c", "%a", "/etc/crontab", "/etc/cron.hourly"]).stdout == "600\n700\n"


# A host whose accounts age, as this tree's own login.defs lets them: the admin is made there, and linuxuser goes.
AGEING = (
    "sed -i 's/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 365/' /etc/login.defs; echo INACTIVE=45 >>/etc/default/useradd;"
    "passwd -ql linuxuser; chage -M 365 -I 45 linuxuser"
)


@pytest.mark.thorough("what a quicker test shows in part")
def test_accounts_that_come_and_go_do_not_age(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    checkout.pillar({**checkout.good_pillar(fresh), "hardening": {"disabled": AIDE_OFF}})
    fresh.run(["sh", "-euc", AGEING])
    found = exact("hardening: accounts that age", fresh, checkout, SLS)
    assert {"linuxuser does not exist: user", "phalkonadmin exists: user"} <= changes(found.real)
    assert "accounts: none that logs in by key ages" not in found.real.changed
    _, _, _, _, longest, _, inactive, *_ = fresh.run(["grep", "^phalkonadmin:", "/etc/shadow"]).stdout.split(":")
    assert {longest, inactive} <= {"", "-1"}


@pytest.mark.thorough("what a quicker test shows in part")
def test_what_somebody_has_installed_is_not_removed_for_a_package_of_ours(entered: Host, checkout: Checkout) -> None:
    entered.run(["sh", "-euc", "apt-get update -q; apt-get install -qy chrony"])
    for test in (True, False):
        run = checkout.apply(SLS, test=test)
        assert run.returncode != 0
        assert "apt would remove chrony for that" in run.failed["packages: as declared"]
    assert entered.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", "chrony"]).stdout == "installed"


def test_an_apt_that_is_at_work_is_waited_for(entered: Host, checkout: Checkout) -> None:
    """Debian's own timers are at it a minute after the boot of a fresh host."""
    held = "import fcntl, time; file = open('/var/lib/apt/lists/lock', 'w'); fcntl.lockf(file, fcntl.LOCK_EX);"
    held += "open('/run/held', 'w'); time.sleep(15)"
    entered.run(["systemd-run", "-q", "python3", "-c", held])
    entered.run(["sh", "-c", "until [ -e /run/held ]; do sleep 0.1; done"])
    done = checkout.salt("mail", "mailhost_pkg.refresh", "forced=True")
    assert done.returncode == 0, done
    assert done.seconds > 5


@pytest.mark.thorough("what a quicker test shows in part")
def test_controls_that_are_off_are_not_applied_and_shown(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    off = {"A05": "no passwords here", "A07": "shared files", "A10": "a test", "V06": "no auditing", "N10": "a test"}
    off |= AIDE_OFF
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


@pytest.mark.thorough("what a quicker test shows in part")
def test_a_control_that_is_switched_off_later_lets_go(converged: Host, checkout: Checkout, exact: Exact) -> None:
    off = {"A04": "a test", "A05": "a test", "A09": "crontabs of others", "N14": "a test"}
    checkout.pillar({**checkout.good_pillar(converged), "hardening": {"disabled": off}})
    found = exact("hardening: four controls switched off", converged, checkout, SLS)
    assert found.made
    common = converged.read("/etc/pam.d/common-auth")
    assert ("pam_faillock" in common, "nullok" in common) == (False, True)
    assert converged.run(["ls", "/etc/cron.allow", "/etc/modprobe.d/90-mailhost.conf"], check=False).stdout == ""


@pytest.mark.thorough("rare, and takes minutes")
def test_the_boot_loader_s_own_words_stay(converged: Host, checkout: Checkout, exact: Exact) -> None:
    _built(converged)
    converged.run(["sh", "-euc", GRUB])
    found = exact("hardening: GRUB", converged, checkout, SLS)
    assert set(found.real.changed) == {GRUB_STATE}
    assert "K07 (there is no hardening.boot_password)" in found.again["1.3.1 is proven"].comment
    words = "audit=1 audit_backlog_limit=8192 apparmor=1 security=apparmor"
    assert converged.read("/boot/grub/grub.cfg").endswith(f"console=ttyS0,115200n8 {words}\n")
    converged.run(["sh", "-euc", "rm /etc/default/grub.d/90-mailhost.cfg; update-grub"])
    run = checkout.apply(SLS, test=True)
    comment = run["1.3.1 is proven"].comment
    assert "V06: audit is not set, not 1, audit_backlog_limit is not set, not 8192" in comment
    assert "V07: apparmor is not set, not 1, security is not set, not apparmor" in comment


@pytest.mark.thorough("rare, and takes minutes")
def test_the_boot_menu_has_a_password(converged: Host, checkout: Checkout, exact: Exact) -> None:
    """One that is given, and is nobody's to read; taken away again with the key of the pillar."""
    _built(converged)
    converged.run(["sh", "-euc", f"{GRUB} chmod 444 /boot/grub/grub.cfg"])
    hashed = f"grub.pbkdf2.sha512.10000.{'CA' * 64}.{'FE' * 64}"
    good = checkout.good_pillar(converged)
    checkout.pillar({**good, "hardening": {"boot_password": hashed}})
    found = exact("hardening: password of the boot menu", converged, checkout, SLS)
    assert found.real.changed[GRUB_STATE]["password of the menu"] == {"old": "none", "new": "as declared"}
    assert all(hashed not in run.result.stdout + run.stderr for run in found.runs)
    assert "password_pbkdf2 root grub.pbkdf2" in converged.read("/boot/grub/grub.cfg")
    modes = converged.run(["stat", "-c", "%U %a", "/boot/grub/grub.cfg", "/etc/grub.d/01_mailhost"]).stdout
    assert modes == "root 600\nroot 700\n"
    converged.run(["sh", "-euc", "chmod 600 /etc/grub.d/01_mailhost; update-grub"])
    dry = checkout.apply(SLS, test=True)
    assert "K07: the boot menu is changed by anybody at the console" in dry["1.3.1 is proven"].comment
    assert checkout.apply(SLS).changed == dry.changed
    checkout.pillar(good)
    found = exact("hardening: password of the boot menu taken away", converged, checkout, SLS)
    assert set(found.real.changed) == {GRUB_STATE}
    assert "password" not in converged.read("/boot/grub/grub.cfg")


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
