"""Settings of the kernel, of mount points, of PAM, and lines in files of Debian's own."""

import pytest

import mailhost_accounts
import mailhost_file
import mailhost_mount
import mailhost_pam
import mailhost_pkg
import mailhost_sysctl

# --- lines of files


@pytest.mark.parametrize(
    ("text", "separator", "settings", "after"),
    [
        ("UMASK\t022\n", " ", {"UMASK": "027"}, "UMASK 027\n"),
        ("UMASK\t027\n", " ", {"UMASK": "027"}, "UMASK\t027\n"),
        ("# UMASK is what new files lack\n", " ", {"UMASK": "027"}, "# UMASK is what new files lack\nUMASK 027\n"),
        ("#UMASK 022\nX 1\n", " ", {"UMASK": "027"}, "UMASK 027\nX 1\n"),
        ("A 1\nA 2\nA 3\n", " ", {"A": "2"}, "A 2\n"),
        ("# minlen = 8\n", " = ", {"minlen": "14"}, "minlen = 14\n"),
        ("minlen=14\n", " = ", {"minlen": "14"}, "minlen=14\n"),
        ("minlength = 3\n", " = ", {"minlen": "14"}, "minlength = 3\nminlen = 14\n"),
        ("# enforce_for_root\n", " = ", {"enforce_for_root": ""}, "enforce_for_root\n"),
        ("enforce_for_root\n", " = ", {"enforce_for_root": ""}, "enforce_for_root\n"),
        ("*   hard  core\tinfinity\n", " ", {"* hard core": "0"}, "* hard core 0\n"),
        (
            "auth sufficient pam_rootok.so\n# auth       required   pam_wheel.so\n"
            "# auth       required   pam_wheel.so deny group=nosu\n",
            " ",
            {"auth required pam_wheel.so": "use_uid group=sugroup"},
            "auth sufficient pam_rootok.so\nauth required pam_wheel.so use_uid group=sugroup\n"
            "# auth       required   pam_wheel.so deny group=nosu\n",
        ),
        ("a", " ", {}, "a\n"),
    ],
)
def test_lines_are_set_in_place(text: str, separator: str, settings: dict[str, str], after: str) -> None:
    assert mailhost_file.with_settings(text, settings, separator) == after
    assert mailhost_file.with_settings(after, settings, separator) == after


# --- the kernel


def test_kernel_settings_are_planned_by_file_and_key() -> None:
    wanted = {"/n": {"a": "1", "i.*.b": "0"}, "/k": {"c": "2"}, "/m": {"d": "3"}}
    live = {
        "a": {"a": {"value": "0", "writable": True}},
        "i.*.b": {"i.x.b": {"value": "1", "writable": True}, "i.y.b": {"value": "0", "writable": True}},
        "c": {"c": {"value": "1", "writable": False}},
        "d": {},
    }
    changes, refused = mailhost_sysctl.plan(wanted, live, {"/n": None, "/k": "old\n", "/m": None})
    assert set(changes) == {"/n", "/k", "a", "i.x.b"}
    assert changes["i.x.b"] == {"old": "1", "new": "0"}
    assert set(refused) == {"c", "d"}
    known = mailhost_sysctl.known(wanted, live)
    assert known == {"/n": {"a": "1", "i.*.b": "0"}, "/k": {}, "/m": {}}
    assert mailhost_sysctl.text(known["/k"]) == ""
    settled = {**live, "a": {"a": {"value": "1", "writable": True}}, "i.*.b": {}}
    assert mailhost_sysctl.plan({"/n": {"a": "1"}}, settled, {"/n": mailhost_sysctl.text({"a": "1"})}) == ({}, {})


def test_what_files_set_at_boot() -> None:
    texts = ["# a = 0\n; b = 0\na=1\n", "-net/ipv4/ip_forward = 1\na =  2\n"]
    assert mailhost_sysctl.settings(texts) == {"a": "2", "net.ipv4.ip_forward": "1"}


# --- mount points

MOUNTS = (
    "tmpfs /tmp tmpfs rw,nosuid,nodev,size=1k 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n/dev/vda1 / ext4 rw 0 0\n"
)
SHM = "tmpfs\t/dev/shm\ttmpfs\tdefaults,nosuid,nodev,noexec\t0\t0\n"


def test_shared_memory_gets_its_options_now_and_in_fstab() -> None:
    wanted = {"/dev/shm": "nosuid,nodev,noexec", "/tmp": "nosuid,nodev", "/": "nodev", "/srv": "nodev"}
    changes, fstab = mailhost_mount.plan(wanted, MOUNTS, "# fstab\n")
    assert changes == {"/dev/shm": {"old": "rw,nosuid,nodev", "new": "and noexec"}}
    assert fstab == f"# fstab\n{SHM}"
    settled = MOUNTS.replace("/dev/shm tmpfs rw", "/dev/shm tmpfs rw,noexec")
    assert mailhost_mount.plan(wanted, settled, fstab) == ({}, fstab)
    assert mailhost_mount.plan(wanted, settled, "# fstab\n") == ({}, fstab)


def test_an_entry_keeps_what_it_has() -> None:
    entry = "tmpfs /dev/shm tmpfs defaults,size=1g 0 0\n"
    assert (
        mailhost_mount.with_entry(entry, "/dev/shm", ["noexec"])
        == "tmpfs\t/dev/shm\ttmpfs\tdefaults,size=1g,noexec\t0\t0\n"
    )


# --- PAM

UNIX = """\
Name: Unix authentication
Default: yes
Auth-Type: Primary
Auth:
	[success=end default=ignore]	pam_unix.so nullok try_first_pass
Auth-Initial:
	[success=end default=ignore]	pam_unix.so nullok
Account-Type: Primary
Account:
	[success=end new_authtok_reqd=done default=ignore]	pam_unix.so
"""
OURS = UNIX.replace(" nullok", "")
LOCK = "Auth-Type: Primary\nAuth:\n\t[default=die]\tpam_faillock.so authfail\n"
PROFILES = {"unix": UNIX, "ours": OURS, "lock": LOCK}


def common(auth: str) -> dict[str, str]:
    return {"auth": f"# a comment\nauth\t{auth}\n", "account": "account\t[success=1 default=ignore]\tpam_unix.so \n"}


@pytest.mark.parametrize(
    ("auth", "changes"),
    [
        ("[success=1 default=ignore]\tpam_unix.so nullok", {"profiles"}),
        ("[success=2 default=ignore]\tpam_unix.so try_first_pass\nauth [default=die]\tpam_faillock.so authfail", set()),
        ("[success=2 default=ignore]\tpam_unix.so\nauth [default=die]  pam_faillock.so  authfail", set()),
        ("[success=2 default=ignore]\tpam_unix.so", {"profiles"}),
        (
            "[success=2 default=ignore]\tpam_unix.so nullok\nauth [success=1]\tpam_unix.so\n"
            "auth [default=die]  pam_faillock.so  authfail",
            {"profiles"},
        ),
    ],
)
def test_pam_holds_some_profiles_and_not_others(auth: str, changes: set[str]) -> None:
    assert set(mailhost_pam.plan(["ours", "lock"], ["unix"], PROFILES, common(auth))) == changes


def test_a_profile_that_is_not_there_yet_is_a_change() -> None:
    assert mailhost_pam.plan(["lock"], ["unix"], {}, common("x pam_unix.so")) == {
        "profiles": {"old": None, "new": "lock; not unix"}
    }


# --- accounts and packages


def test_accounts_that_log_in_by_key_and_would_age() -> None:
    shadow = (
        "root:$y$hash:20000:0:365:7:::\n"
        "ada:!:20000:0:365:7:45::\n"
        "bob:!:20000:0:99999:7:::\n"
        "eve:!:20000:0:99999:7:30::\n"
        "sys:*:20000::::::\n"
        "old:!:20000:0:-1:7:-1::\n"
    )
    assert mailhost_accounts.ageing(shadow, {}) == {
        "ada": "after 365 days, inactive 45",
        "eve": "after 99999 days, inactive 30",
    }


def test_what_apt_get_would_remove() -> None:
    output = "Reading...\nPurg rpcbind [1.2.7-1]\nRemv nfs-common [1:2.8.3-1]\n"
    assert mailhost_pkg.parse_removal(output) == {"rpcbind": "1.2.7-1", "nfs-common": "1:2.8.3-1"}


MIRROR = """\
Types: deb
URIs: https://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
SECURITY = MIRROR.replace("trixie trixie-updates", "trixie-security").replace("/debian\n", "/debian-security\n")
LINE = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main\n"


@pytest.mark.parametrize(
    ("sources", "known", "uri"),
    [
        ([MIRROR], False, "https://mirror.example/debian-security"),
        ([f"{MIRROR}\n{SECURITY}"], True, "https://mirror.example/debian-security"),
        ([MIRROR, f"Enabled: no\n{SECURITY}"], False, "https://mirror.example/debian-security"),
        ([MIRROR, "# deb http://mirror.example/debian-security trixie-security main\n"], False, "debian-security"),
        ([MIRROR, "deb http://other.example/x trixie-security main\n"], True, "debian-security"),
        ([LINE], False, "http://mirror.example/debian-security"),
        (["deb mirror+file:/etc/apt/mirrors/debian.list trixie main\n"], False, ""),
        ([], False, ""),
    ],
)
def test_debian_s_security_archive(sources: list[str], known: bool, uri: str) -> None:
    found, text = mailhost_pkg.security_source(sources, "trixie")
    assert found is known
    assert uri in text and bool(uri) == bool(text)
    assert "Suites: trixie-security\n" in text or not text


def test_an_interface_that_is_to_come_has_what_default_has() -> None:
    key = "net.ipv4.conf.*.send_redirects"
    there = {"net.ipv4.conf.eth0.send_redirects": {"value": "0", "writable": True}}
    default = {"net.ipv4.conf.default.send_redirects": {"value": "1", "writable": True}}
    live = {key: there, "a": {"a": {"value": "1", "writable": True}}}
    found = mailhost_sysctl.with_interfaces(live, {key.replace("*", "default"): default}, ["docker0", "eth0"])
    assert found["a"] == live["a"]
    assert found[key] == {**there, "net.ipv4.conf.docker0.send_redirects": {"value": "1", "writable": True}}
