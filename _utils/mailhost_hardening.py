"""The hardening controls: one table, what each sets, where it comes from and what it costs. Pure.

Everything else is read out of ``CONTROLS``: the settings of sshd, the kernel and the rest, which of them are on for a
pillar, and whether a host holds them.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BOOT = "K07"  # comes with the password that the pillar gives it
PROFILES = {"strict": 2, "basic": 1}  # the highest priority number a profile takes in


@dataclass(frozen=True)
class Control:
    """One control.

    ``breaks`` is what it costs, ``off`` why it is off unless the pillar asks for it. ``sets`` holds what it sets, by
    kind and key. The kinds:

    - sshd: keywords; sysctl: keys, where ``*`` stands for every network interface; module: those that cannot be loaded
    - access: owner, group and mode of a path; startup: the files with a dot in people's homes; text: what a regular
      expression finds in a file; mount: options of a mount point; integrity: AIDE's database
    - those of ``EDITED``: lines of files that are Debian's own
    - group: one without members
    - kernel: words of its command line; boot: what may be done in GRUB's menu
    - pam: profiles of pam-auth-update(8)
    - limits, coredump, journald, timesyncd, apt, sudo: keys of these programs' own configuration
    - unit: one that runs; package: installed or gone; source: an archive that apt knows
    """

    id: str
    priority: int
    means: str
    source: str
    breaks: str = ""
    off: str = ""
    sets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Edited:
    """A file of Debian's own in which lines ``key<separator>value`` are set; ``package`` brings it."""

    path: str
    separator: str = " "
    package: str | None = None


EDITED = {
    "logindefs": Edited("/etc/login.defs"),
    "useradd": Edited("/etc/default/useradd", "="),
    "su": Edited("/etc/pam.d/su"),
    "bashrc": Edited("/etc/bash.bashrc"),
    "debsums": Edited("/etc/default/debsums", "=", "debsums"),
    "faillock": Edited("/etc/security/faillock.conf", " = "),
    "pwquality": Edited("/etc/security/pwquality.conf", " = ", "libpwquality-common"),
    "journald": Edited("/etc/systemd/journald.conf", "="),
    "auditd": Edited("/etc/audit/auditd.conf", " = ", "auditd"),
    "sysstat": Edited("/etc/default/sysstat", "=", "sysstat"),
    "aide": Edited("/etc/aide/aide.conf", " ", "aide-common"),
}

KEX = "mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com"
CIPHERS = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-gcm@openssh.com,aes128-ctr"
MACS = "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com"

# Not overlay (Docker), veth, br_netfilter, wireguard, vfat (UEFI).
MODULES = (
    "cramfs",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "udf",
    "usb-storage",
    "firewire-core",
    "atm",
    "can",
    "dccp",
    "sctp",
    "rds",
    "tipc",
)

# Programs that send secrets in the clear, or listen without being asked. Not a mail server's own: they come later.
UNWANTED = (
    "avahi-daemon",
    "cups-daemon",
    "exim4-base",
    "ftp",
    "inetutils-telnet",
    "inetutils-telnetd",
    "nis",
    "rpcbind",
    "rsh-client",
    "rsh-redone-client",
    "samba",
    "snmpd",
    "talk",
    "talkd",
    "telnet",
    "telnetd",
    "tftpd-hpa",
    "tnftp",
    "vsftpd",
    "xinetd",
    "ypbind-mt",
)

CRON = ("d", "hourly", "daily", "weekly", "monthly", "yearly")

CONTROLS: tuple[Control, ...] = (
    Control(
        "S01",
        1,
        "logins by key only",
        "sshd_config(5), AuthenticationMethods",
        "whoever has no key in place",
        sets={
            "sshd": {
                "PasswordAuthentication": "no",
                "KbdInteractiveAuthentication": "no",
                "AuthenticationMethods": "publickey",
            }
        },
    ),
    Control(
        "S02",
        1,
        "root cannot log in",
        "CIS 5.1.21; ANSSI BP-028 R33",
        "runs that come in as root",
        sets={"sshd": {"PermitRootLogin": "no"}},
    ),
    Control(
        "S03",
        1,
        "only the admin may log in",
        "CIS 5.1.4",
        "other accounts with keys",
        sets={"sshd": {"AllowUsers": "{admin}"}},
    ),
    Control(
        "S05",
        1,
        "post-quantum key exchange, authenticated ciphers",
        "CIS 5.1.6, 5.1.12, 5.1.13, 5.1.16; ssh-audit's Debian 13 policy",
        "clients older than OpenSSH 8.5; RSA keys shorter than 3072 bits",
        sets={"sshd": {"KexAlgorithms": KEX, "Ciphers": CIPHERS, "MACs": MACS, "RequiredRSASize": "3072"}},
    ),
    Control(
        "S06",
        1,
        "one host key, ed25519",
        "ssh-audit's Debian 13 policy",
        "clients that only know the host's RSA or ECDSA key",
        sets={"sshd": {"HostKey": "/etc/ssh/ssh_host_ed25519_key"}},
    ),
    Control(
        "S07",
        1,
        "few tries, sessions and waiting logins",
        "CIS 5.1.14, 5.1.17–5.1.19; Lynis SSH-7408",
        "agents that offer many keys: use IdentitiesOnly",
        sets={"sshd": {"MaxAuthTries": "3", "LoginGraceTime": "30", "MaxSessions": "4", "MaxStartups": "10:30:60"}},
    ),
    Control(
        "S08",
        1,
        "sshd's own ban stays on, the VPN is exempt from it",
        "sshd_config(5), PerSourcePenalties",
        "port scans from the operator's own public address",
        sets={"sshd": {"PerSourcePenaltyExemptList": "{vpn}", "PerSourceMaxStartups": "5"}},
    ),
    Control(
        "S09",
        1,
        "no forwarding, no user's own start-up files",
        "CIS 5.1.8, 5.1.22",
        "tunnels through this host: use the VPN",
        sets={
            "sshd": {
                "DisableForwarding": "yes",
                "AllowTcpForwarding": "no",
                "AllowAgentForwarding": "no",
                "AllowStreamLocalForwarding": "no",
                "X11Forwarding": "no",
                "PermitTunnel": "no",
                "GatewayPorts": "no",
                "PermitUserRC": "no",
                "PermitUserEnvironment": "no",
            }
        },
    ),
    Control(
        "S10",
        2,
        "dead sessions end after ten minutes",
        "CIS 5.1.7",
        sets={"sshd": {"ClientAliveInterval": "300", "ClientAliveCountMax": "2", "TCPKeepAlive": "no"}},
    ),
    Control(
        "S11",
        2,
        "sshd's safe defaults are written down",
        "CIS 5.1.5, 5.1.9–5.1.11, 5.1.15, 5.1.20, 5.1.23",
        sets={
            "sshd": {
                "LogLevel": "VERBOSE",
                "Banner": "/etc/issue.net",
                "DebianBanner": "no",
                "RekeyLimit": "536870912 3600",  # 512M 1h, as sshd -T prints it
                "StrictModes": "yes",
                "IgnoreRhosts": "yes",
                "HostbasedAuthentication": "no",
                "GSSAPIAuthentication": "no",
                "PermitEmptyPasswords": "no",
                "Compression": "no",
                "UsePAM": "yes",
            }
        },
    ),
    Control(
        "S14",
        1,
        "sshd's configuration is readable by root only",
        "CIS 5.1.1",
        sets={"access": {"/etc/ssh/sshd_config": "root:root 0600", "/etc/ssh/sshd_config.d": "root:root 0700"}},
    ),
    Control(
        "N09",
        1,
        "IPv4 is forwarded: Docker and the VPN need it, the firewall polices it",
        "docs.docker.com, packet filtering; against CIS 3.3.1.1",
        sets={"sysctl": {"net.ipv4.ip_forward": "1"}},
    ),
    Control(
        "N10",
        1,
        "no redirects, no source routes, martians are logged, SYN floods are met with cookies",
        "CIS 3.3.1.4–3.3.1.11, 3.3.1.14–3.3.1.18, 3.3.2.3–3.3.2.6; ANSSI BP-028 R12, R13",
        sets={
            "sysctl": {
                **{
                    f"net.ipv4.conf.{which}.{name}": "0"
                    for name in (
                        "accept_redirects",
                        "secure_redirects",
                        "send_redirects",
                        "accept_source_route",
                        "shared_media",
                    )
                    for which in ("all", "default", "*")
                },
                **{
                    f"net.ipv6.conf.{which}.{name}": "0"
                    for name in ("accept_redirects", "accept_source_route")
                    for which in ("all", "default", "*")
                },
                "net.ipv4.conf.all.log_martians": "1",
                "net.ipv4.conf.default.log_martians": "1",
                "net.ipv4.icmp_ignore_bogus_error_responses": "1",
                "net.ipv4.icmp_echo_ignore_broadcasts": "1",
                "net.ipv4.tcp_syncookies": "1",
                "net.ipv4.tcp_rfc1337": "1",
            }
        },
    ),
    Control(
        "N11",
        1,
        "the kernel's settings are those of this table also after the network, the firewall and Docker have started",
        "CIS 3.3.1.16; ufw's own sysctl.conf sets log_martians to 0",
        sets={"unit": {"sysctl-reapply-network.service": "runs"}},
    ),
    Control(
        "N12",
        2,
        "packets come in where the route to their source goes out",
        "CIS 3.3.1.12, 3.3.1.13; ANSSI BP-028 R12",
        "policy routing through the VPN: set 2 on its interface, the greater value counts",
        sets={"sysctl": {"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1"}},
    ),
    Control(
        "N13",
        2,
        "no router advertisement is taken",
        "CIS 3.3.2.7, 3.3.2.8; ANSSI BP-028 R13",
        "IPv6 of a host that gets it by router advertisement",
        off="the provider gives IPv6 by router advertisement",
        sets={"sysctl": {f"net.ipv6.conf.{which}.accept_ra": "0" for which in ("all", "default", "*")}},
    ),
    Control(
        "N14",
        1,
        "kernel modules nobody needs here cannot be loaded",
        "CIS 1.1.1.1–1.1.1.5, 1.1.1.8–1.1.1.10, 3.2.1–3.2.6",
        sets={"module": dict.fromkeys(MODULES, "cannot be loaded")},
    ),
    Control(
        "K01",
        1,
        "the kernel's addresses and messages are root's, its memory layout is random",
        "CIS 1.5.5, 1.5.8, 1.5.9; ANSSI BP-028 R9",
        "perf and dmesg for users",
        sets={
            "sysctl": {
                "kernel.kptr_restrict": "2",
                "kernel.dmesg_restrict": "1",
                "kernel.perf_event_paranoid": "3",
                "kernel.randomize_va_space": "2",
            }
        },
    ),
    Control(
        "K02",
        1,
        "eBPF is root's, its compiler is hardened",
        "ANSSI BP-028 R9, R12",
        "cannot be undone before a reboot",
        sets={"sysctl": {"kernel.unprivileged_bpf_disabled": "1", "net.core.bpf_jit_harden": "2"}},
    ),
    Control(
        "K03",
        1,
        "processes are debugged by their parents only",
        "CIS 1.5.3; ANSSI BP-028 R11",
        "gdb on a running process, but for root",
        sets={"sysctl": {"kernel.yama.ptrace_scope": "1"}},
    ),
    Control(
        "K04",
        1,
        "no tricks with links and pipes in shared directories, no dumps of privileged programs",
        "CIS 1.5.1, 1.5.2, 1.5.4; ANSSI BP-028 R14",
        "images that write others' files in sticky directories",
        sets={
            "sysctl": {
                "fs.protected_hardlinks": "1",
                "fs.protected_symlinks": "1",
                "fs.protected_fifos": "2",
                "fs.protected_regular": "2",
                "fs.suid_dumpable": "0",
            }
        },
    ),
    Control(
        "K05",
        1,
        "no core dumps, no other kernel by kexec, no magic keys",
        "CIS 1.5.11–1.5.13; ANSSI BP-028 R9 (sysrq); Lynis KRNL-5820; kernel documentation, admin-guide/sysctl/kernel",
        "kdump; kexec cannot be had back before a reboot",
        sets={
            "sysctl": {"kernel.kexec_load_disabled": "1", "kernel.sysrq": "0", "kernel.core_uses_pid": "1"},
            "limits": {"* soft core": "0", "root soft core": "0", "* hard core": "0", "root hard core": "0"},
            "coredump": {"Storage": "none", "ProcessSizeMax": "0"},
            "text": {"/etc/profile.d/90-mailhost-coredump.sh": r"(?m)^ulimit -c 0$"},
        },
    ),
    Control(
        "K06",
        2,
        "old and rarely used ways into the kernel are shut",
        "ANSSI BP-028 R8; kernel documentation, admin-guide/sysctl",
        sets={
            "sysctl": {
                "dev.tty.ldisc_autoload": "0",
                "dev.tty.legacy_tiocsti": "0",
                "vm.unprivileged_userfaultfd": "0",
                "vm.mmap_min_addr": "65536",
                "vm.mmap_rnd_bits": "32",
                "vm.mmap_rnd_compat_bits": "16",
            }
        },
    ),
    Control(
        BOOT,
        2,
        "an entry of the boot menu is changed with a password only",
        "CIS 1.4.1; ANSSI BP-028 R5",
        "a shell without root's password, by GRUB on the provider's console",
        off="there is no hardening.boot_password",
        sets={"boot": {"the boot menu": "changed with a password"}},
    ),
    Control(
        "A02",
        1,
        "sudo has its own terminal, its own log, and forgets a password after five minutes",
        "CIS 5.2.2, 5.2.3, 5.2.6; ANSSI BP-028 R39",
        sets={
            "sudo": {"use_pty": "true", "logfile": "/var/log/sudo.log", "timestamp_timeout": "5"},
            "package": {"logrotate": "installed"},
            "text": {"/etc/logrotate.d/sudo-log": r"/var/log/sudo\.log"},
        },
    ),
    Control(
        "A03",
        2,
        "passwords of new accounts age; accounts that log in by key never do",
        "CIS 5.4.1.1–5.4.1.3, 5.4.1.5; login.defs(5)",
        "an account with a password that nobody changes for a year",
        sets={
            "logindefs": {"PASS_MAX_DAYS": "365", "PASS_MIN_DAYS": "1", "PASS_WARN_AGE": "7"},
            "useradd": {"INACTIVE": "45"},
        },
    ),
    Control(
        "A04",
        1,
        "four wrong passwords lock an account for a quarter of an hour, root's never",
        "CIS 5.3.2.2, 5.3.3.1.1, 5.3.3.1.2; ANSSI BP-028 R31; pam_faillock(8)",
        sets={
            "pam": {"mailhost-faillock-first": "enabled", "mailhost-faillock": "enabled"},
            "faillock": {"deny": "4", "unlock_time": "900"},
        },
    ),
    Control(
        "A05",
        1,
        "passwords are long, mixed, in no dictionary and never used before; empty ones open nothing",
        "CIS 5.3.2.3, 5.3.2.4, 5.3.3.2.1–5.3.3.4.4; ANSSI BP-028 R31, R68",
        sets={
            "package": {"libpam-pwquality": "installed", "cracklib-runtime": "installed"},
            "pam": {
                "pwquality": "enabled",
                "mailhost-pwhistory": "enabled",
                "mailhost-unix": "enabled",
                "unix": "disabled",
            },
            "pwquality": {
                "minlen": "14",
                "minclass": "4",
                "dcredit": "-1",
                "ucredit": "-1",
                "lcredit": "-1",
                "ocredit": "-1",
                "maxrepeat": "3",
                "maxsequence": "3",
                "difok": "2",
                "dictcheck": "1",
                "enforcing": "1",
                "enforce_for_root": "",
            },
        },
    ),
    Control(
        "A06",
        1,
        "password hashes are yescrypt's, at a cost",
        "CIS 5.4.1.4; ANSSI BP-028 R68; crypt(5)",
        sets={
            "logindefs": {
                "ENCRYPT_METHOD": "YESCRYPT",
                "YESCRYPT_COST_FACTOR": "7",
                # For whoever asks for a hash of SHA-2 all the same.
                "SHA_CRYPT_MIN_ROUNDS": "65536",
                "SHA_CRYPT_MAX_ROUNDS": "65536",
            }
        },
    ),
    Control(
        "A07",
        2,
        "new files are nobody else's; an idle shell ends after a quarter of an hour",
        "CIS 5.4.3.2, 5.4.3.3; ANSSI BP-028 R32, R36",
        "programs that make files for others without giving them a mode",
        sets={
            "logindefs": {"UMASK": "027"},
            "bashrc": {"umask": "027"},
            "text": {"/etc/profile.d/90-mailhost.sh": r"(?ms)^umask 027$.*^declare -xr TMOUT=900$"},
        },
    ),
    Control(
        "A08",
        1,
        "nobody but root may use su",
        "CIS 5.2.7",
        "su by the admin: use sudo -u",
        sets={"su": {"auth required pam_wheel.so": "use_uid group=sugroup"}, "group": {"sugroup": "empty"}},
    ),
    Control(
        "A09",
        1,
        "cron and at are root's, and so are accounts' secrets; a person's start-up files are that person's",
        "CIS 2.4.1.2–2.4.1.9, 2.4.2.1, 7.1.5–7.1.8, 7.2.10; ANSSI BP-028 R50",
        "crontabs of other accounts: use timers of systemd",
        sets={
            "package": {"cron": "installed"},
            "access": {
                "/etc/crontab": "root:root 0600",
                **{
                    f"/etc/cron.{which}": "root:root 0700"
                    for which in ("d", "hourly", "daily", "weekly", "monthly", "yearly")
                },
                "/etc/cron.allow": "root:root 0600",
                "/etc/at.allow": "root:root 0600",
                **{f"/etc/skel/{name}": "root:root 0640" for name in (".bashrc", ".bash_logout", ".profile")},
                "/etc/shadow": "root:shadow 0640",
                "/etc/gshadow": "root:shadow 0640",
                "/etc/shadow-": "root:shadow 0640",
                "/etc/gshadow-": "root:shadow 0640",
            },
            "text": {"/etc/cron.allow": r"\Aroot\n\Z", "/etc/at.allow": r"\Aroot\n\Z"},
            "startup": {"/home": "nobody else's"},
        },
    ),
    Control(
        "A10",
        2,
        "no programs and devices in shared memory",
        "CIS 1.1.2.2.1–1.1.2.2.4; ANSSI BP-028 R28",
        "programs that run code from /dev/shm",
        sets={"mount": {"/dev/shm": "nosuid,nodev,noexec", "/tmp": "nosuid,nodev"}},
    ),
    Control(
        "A12",
        2,
        "logins meet a banner that says nothing of the system",
        "CIS 1.6.1–1.6.6; Lynis BANN-7126, BANN-7130",
        sets={
            "text": dict.fromkeys(("/etc/issue", "/etc/issue.net", "/etc/motd"), r"\AAuthorized users only\."),
            "access": dict.fromkeys(("/etc/issue", "/etc/issue.net", "/etc/motd"), "root:root 0644"),
        },
    ),
    Control(
        "V01",
        1,
        "apt has Debian's security archive",
        "ANSSI BP-028 R59; Lynis PKGS-7388",
        sets={"source": {"Debian-Security": "known to apt"}},
    ),
    Control(
        "V02",
        1,
        "updates are installed every day, nothing reboots by itself",
        "CIS 1.2.2.1; ANSSI BP-028 R61",
        "services are restarted for security updates",
        sets={
            "package": {"unattended-upgrades": "installed"},
            "apt": {
                "APT::Periodic::Update-Package-Lists": "1",
                "APT::Periodic::Unattended-Upgrade": "1",
                "APT::Periodic::AutocleanInterval": "7",
                "Unattended-Upgrade::Automatic-Reboot": "false",
                "Unattended-Upgrade::Remove-Unused-Dependencies": "true",
                "Unattended-Upgrade::SyslogEnable": "true",
            },
            "unit": {"apt-daily.timer": "runs", "apt-daily-upgrade.timer": "runs"},
        },
    ),
    Control(
        "V03",
        1,
        "services are restarted when their libraries were updated",
        "ANSSI BP-028 R61; needrestart(1)",
        "short restarts; not of Docker, databases, the VPN and the bus",
        sets={
            "package": {"needrestart": "installed"},
            "text": {"/etc/needrestart/conf.d/90-mailhost.conf": r"\$nrconf\{restart\} = 'a';"},
        },
    ),
    Control(
        "V06",
        2,
        "changes of accounts, rights, time, network, modules and Docker are recorded",
        "CIS 6.2.1.1–6.2.3.35; ANSSI BP-028 R73",
        "disk: five files of 8 MB",
        sets={
            "package": {"auditd": "installed", "audispd-plugins": "installed"},
            "unit": {"auditd.service": "runs"},
            "auditd": {"disk_error_action": "SYSLOG"},
            # What runs before auditd is recorded too, and kept for it.
            "kernel": {"audit": "1", "audit_backlog_limit": "8192"},
            "text": {"/etc/audit/rules.d/90-mailhost.rules": r"(?m)^-w /etc/sudoers "},
        },
    ),
    Control(
        "V07",
        2,
        "AppArmor confines the programs that have a profile, from the start on",
        "CIS 1.3.1.1–1.3.1.3; ANSSI BP-028 R45",
        sets={
            "package": {"apparmor": "installed", "apparmor-utils": "installed"},
            "unit": {"apparmor.service": "runs"},
            # What Debian's kernel does without a word, whatever a provider's image says.
            "kernel": {"apparmor": "1", "security": "apparmor"},
        },
    ),
    Control(
        "V08",
        1,
        "files are compared with a database every day",
        "CIS 6.3.1–6.3.3; ANSSI BP-028 R76, R77",
        "minutes of disk once a day; a report after every update",
        sets={
            "package": {"aide": "installed", "aide-common": "installed", "debsums": "installed"},
            "unit": {"dailyaidecheck.timer": "runs"},
            "debsums": {"CRON_CHECK": "weekly"},
            "aide": {
                # One that nobody can forge is enough (Lynis FINT-4402); Debian computes all there are.
                "Checksums": "= sha512",
                # The tools that would hide what auditd saw.
                **{
                    f"/sbin/{tool}": "p+i+n+u+g+s+b+acl+selinux+xattrs+sha512"
                    for tool in ("auditctl", "auditd", "ausearch", "aureport", "autrace", "augenrules")
                },
            },
            "integrity": {"database": "is there or being built"},
        },
    ),
    Control(
        "V09",
        1,
        "the journal outlives a reboot and cannot fill the disk; rsyslog gets a copy, and passes nothing on",
        "CIS 6.1.1.1.5, 6.1.1.1.6, 6.1.2.1–6.1.2.4, 6.1.2.7, against 6.1.1.1.4; ANSSI BP-028 R71",
        "the disk that a second copy takes; logrotate keeps it to some weeks",
        sets={
            "package": {"rsyslog": "installed", "logrotate": "installed"},
            "unit": {"rsyslog.service": "runs"},
            "journald": {
                "Storage": "persistent",
                "Compress": "yes",
                "SystemMaxUse": "1G",
                "ForwardToSyslog": "yes",
            },
        },
    ),
    Control(
        "V10",
        1,
        "one service keeps the time",
        "CIS 2.3.1.1, 2.3.2.1, 2.3.2.2; ANSSI BP-028 R71",
        sets={
            "package": {"systemd-timesyncd": "installed"},
            "unit": {"systemd-timesyncd.service": "runs"},
            "timesyncd": {"NTP": " ".join(f"{number}.debian.pool.ntp.org" for number in range(4))},
        },
    ),
    Control(
        "V11",
        2,
        "what the host was doing is measured every ten minutes, and kept for a week",
        "Lynis ACCT-9626; sar(1)",
        sets={
            "package": {"sysstat": "installed"},
            "sysstat": {"ENABLED": '"true"'},
            # The second takes away what is older; the third starts both at boot.
            "unit": dict.fromkeys(("sysstat-collect.timer", "sysstat-summary.timer", "sysstat.service"), "runs"),
        },
    ),
    Control(
        "V12",
        1,
        "no program that sends secrets in the clear or listens without being asked; none that nobody asked for",
        "CIS 1.2.1.2, 2.1.2, 2.1.6, 2.1.11–2.1.17, 2.1.20, 2.2.1–2.2.6; ANSSI BP-028 R58, R62",
        sets={
            "package": dict.fromkeys(UNWANTED, "gone"),
            "apt": {"APT::Install-Recommends": "0", "APT::Install-Suggests": "0"},
        },
    ),
)

IDS = tuple(control.id for control in CONTROLS)
KINDS = tuple(sorted({kind for control in CONTROLS for kind in control.sets}))


def active(hardening: Mapping[str, Any]) -> tuple[Control, ...]:
    """Return the controls that are on for a pillar's section ``hardening``, in the table's order."""
    out = off(hardening)
    return tuple(
        control for control in CONTROLS if control.priority <= PROFILES[hardening["profile"]] and control.id not in out
    )


def off(hardening: Mapping[str, Any]) -> dict[str, str]:
    """Return the controls of the profile that are switched off, each with its reason."""
    asked = {*(hardening["enabled"] or ()), *([BOOT] if hardening["boot_password"] else [])}
    own = {control.id: control.off for control in CONTROLS if control.off and control.id not in asked}
    reasons = {**own, **(hardening["disabled"] or {})}
    limit = PROFILES[hardening["profile"]]
    return {
        control.id: reasons[control.id] for control in CONTROLS if control.id in reasons and control.priority <= limit
    }


def settings(controls: Iterable[Control], kind: str) -> dict[str, str]:
    """Return what controls set of one kind, by key."""
    return {name: value for control in controls for name, value in control.sets.get(kind, {}).items()}


def sshd(pillar: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return sshd's settings for a pillar: keyword, value as ``sshd -T`` prints it, and the control's id."""
    values = {"admin": pillar["access"]["admin"]["name"], "vpn": ",".join(_networks(pillar["vpn"]))}
    return [
        (keyword, value.format(**values), control.id)
        for control in active(pillar["hardening"])
        for keyword, value in control.sets.get("sshd", {}).items()
    ]


def _networks(vpn: Mapping[str, Any]) -> list[str]:
    """Return the VPN's networks."""
    return [str(ipaddress.ip_interface(vpn[name]).network) for name in ("address", "address6") if vpn[name]]


Values = dict[str, dict[str, str]]


def wanted(controls: Iterable[Control], pillar: Mapping[str, Any]) -> Values:
    """Return all that controls set, by kind and key, with the pillar's own values filled in."""
    controls = tuple(controls)
    found = {kind: held for kind in KINDS if (held := settings(controls, kind))}
    if "sshd" in found:
        found["sshd"] = {keyword: value for keyword, value, _ in sshd(pillar)}
    return found


def judge(
    controls: Iterable[Control],
    values: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Mapping[str, str | None]],
    absent: Mapping[str, str],
) -> tuple[list[str], list[str], list[str]]:
    """Return which controls hold, what is not as it should be, and which do not apply here.

    values
        What is wanted, from ``wanted()``.
    facts
        What was found on the host, by kind and key; None where there is nothing.
    absent
        Keys, as ``kind:key``, that this host cannot have, each with the reason.
    """
    holding, failing, missing = [], [], []
    for control in controls:
        wrong: list[str] = []
        gone: dict[str, str] = {}
        pairs = [(kind, name) for kind, held in control.sets.items() for name in held]
        for kind, name in pairs:
            found, value = facts[kind].get(name), values[kind][name]
            if reason := absent.get(f"{kind}:{name}"):
                gone[name] = reason
            elif found != value:
                wrong.append(f"{name} is {_short('not set' if found is None else found)}, not {_short(value)}")
        if wrong:
            failing.append(f"{control.id}: {', '.join(wrong)}")
        elif len(gone) == len(pairs):
            missing.append(f"{control.id} ({_reasons(gone)})")
        else:
            holding.append(control.id)
            if gone:
                missing.append(f"{control.id} in part ({_reasons(gone)})")
    return holding, failing, missing


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _reasons(gone: Mapping[str, str]) -> str:
    """Return why keys are not there, each reason once."""
    return ", ".join(dict.fromkeys(gone.values()))
