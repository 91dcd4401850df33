"""The lab keeps its promises: hosts like a fresh VPS, exact snapshots, several at once, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from labkit import Host, Lab, LabError, boot
from labkit import procs as lab_processes

pytestmark = pytest.mark.lab

CAP_SYS_TIME = 25
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab for this module."""
    with Lab(f"itself-{os.getpid()}") as made:
        yield made


@pytest.fixture(scope="module")
def booted(lab: Lab) -> Host:
    """A host that was booted once; tests put it back themselves."""
    made = lab.host("mail")
    made.boot()
    return made


@pytest.fixture
def host(booted: Host) -> Host:
    """The host, running, whatever the test before did to it."""
    booted.boot()
    return booted


def labkit(
    *words: str, directory: Path | None = None, machine: Sequence[str] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the command line as `make` does; machine is what to put before it so that it runs elsewhere."""
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    if directory:
        env["MAILHOST_LAB_DIR"] = str(directory)
    return subprocess.run(
        [*machine, sys.executable, "-m", "labkit", *words], env=env, check=check, capture_output=True, text=True
    )


def output(*argv: str) -> str:
    """Return what a command of this machine prints."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def everything(machine: Sequence[str] = ()) -> list[str]:
    """Return, as lines, everything of a machine that a lab could leave behind."""
    commands = [
        ["ps", "-eo", "stat,args"],
        ["ip", "netns", "list"],
        ["ip", "-br", "link"],
        ["ip", "route", "show", "table", "all"],
        ["iptables-save"],
        ["ip6tables-save"],
        ["cat", "/proc/mounts"],
        ["sysctl", "net.ipv4.ip_forward"],
        ["find", "/run/mailhost-lab", "/run/netns"],
        ["find", "/sys/fs/cgroup", "-path", "*mailhost-lab/*", "-prune"],
    ]
    lines = []
    for command in commands:
        said = subprocess.run([*machine, *command], check=False, capture_output=True, text=True).stdout
        lines += [f"{command[0]} {line}" for line in said.splitlines()]
    # Dead processes wait for this machine's init; counters, times and expiries change by themselves.
    # Tables and their own chains stay once they were used; what matters is chains of ours and rules.
    kept = [line for line in lines if not re.match(r"ps Z|ip6?tables-save (#|\*|COMMIT|:\w+ ACCEPT)", line)]
    return [re.sub(r"\[\d+:\d+\]| expires \S+", "", line) for line in kept]


def of_lab(name: str, slot: int) -> list[str]:
    """Return what there is on this machine of one lab, whatever other labs come and go meanwhile."""
    signs = [
        name,
        f"mhlab{slot}",
        f"MHLAB{slot}",
        f"mh{slot}-",
        f"10.213.{slot}.",
        f"fd00:213:{slot}:",
        f"slot-{slot}.",
    ]
    sign = re.compile("|".join(rf"(?<![\w.]){re.escape(one)}(?!\d)" for one in signs))
    return [line for line in everything() if sign.search(line)]


# --- a fresh VPS


@pytest.mark.parametrize("address", ["ipv4", "ipv6"])
def test_root_logs_in_by_key(host: Host, address: str) -> None:
    assert host.ssh(["id", "-un"], address=getattr(host, address)).stdout == "root\n"


def test_ssh_refuses_a_host_with_another_key(host: Host) -> None:
    known = host.directory / "known_hosts"
    pinned = known.read_text()
    other = (host.directory / "id_ed25519.pub").read_text()
    try:
        known.write_text(f"{host.name} {other}")
        assert "verification failed" in host.ssh(["true"], check=False).stderr
    finally:
        known.write_text(pinned)


def test_it_is_debian_13_run_by_systemd(host: Host) -> None:
    assert "VERSION_CODENAME=trixie" in host.run(["cat", "/etc/os-release"]).stdout
    assert host.run(["cat", "/proc/1/comm"]).stdout == "systemd\n"
    assert host.run(["systemctl", "is-system-running"]).stdout == "running\n"
    assert host.run(["hostname"]).stdout == "vultr\n"
    assert host.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout == ""


def test_apt_works(host: Host) -> None:
    said = host.run(["apt-get", "update"]).stdout
    assert "trixie InRelease" in said
    assert "trixie" in host.run(["apt-cache", "policy", "fail2ban"]).stdout


def test_linuxuser_is_the_provider_s(host: Host) -> None:
    account = host.run(["getent", "passwd", "linuxuser"]).stdout.strip()
    assert account == "linuxuser:x:1000:1000::/home/linuxuser:/bin/bash"
    assert host.run(["id", "-Gn", "linuxuser"]).stdout == "linuxuser sudo\n"
    assert host.run(["passwd", "-S", "linuxuser"]).stdout.split()[1] == "L"
    assert host.run(["su", "-", "linuxuser", "-c", "sudo -n id -u"]).stdout == "0\n"
    shown = host.run(["stat", "-c", "%U %G %a", "/home/linuxuser/.bashrc", "/var/mail/linuxuser"]).stdout
    assert shown == "linuxuser linuxuser 644\nlinuxuser mail 660\n"
    assert "linuxuser ALL=(ALL) NOPASSWD:ALL" in host.read("/etc/sudoers.d/90-cloud-init-users")


def test_sshd_is_as_cloud_init_left_it(host: Host) -> None:
    effective = host.run(["sshd", "-T"]).stdout.splitlines()
    assert {"port 22", "passwordauthentication yes"} <= set(effective)
    assert host.read("/etc/ssh/sshd_config.d/50-cloud-init.conf") == "PasswordAuthentication yes\n"


def test_hosts_differ_where_they_must(lab: Lab, host: Host) -> None:
    other = lab.host("other")
    assert other.host_key != host.host_key
    assert other.read("/etc/machine-id") != host.read("/etc/machine-id")
    assert (other.ipv4, other.ipv6) != (host.ipv4, host.ipv6)
    assert set(json.loads((lab.directory / "hosts.json").read_text())) >= {"mail", "other"}


# --- commands inside


def test_a_command_inside_is_root_s_and_nobody_s_session(host: Host) -> None:
    assert host.run(["sh", "-c", "id -u; pwd; echo $HOME; cat"], input="text").stdout == "0\n/\n/root\ntext"
    assert "0::/lab" in host.run(["cat", "/proc/self/cgroup"]).stdout
    assert host.run(["env"]).stdout.count("\n") < 12


def test_a_command_that_fails_says_why(host: Host) -> None:
    with pytest.raises(LabError, match="No such file"):
        host.run(["cat", "/nowhere"])
    assert host.run(["sh", "-c", "exit 3"], check=False).returncode == 3


def test_put_and_read(host: Host) -> None:
    host.put("one\n", "/etc/new/file", 0o640)
    assert host.read("/etc/new/file") == "one\n"
    assert host.run(["stat", "-c", "%U %a", "/etc/new/file"]).stdout == "root 640\n"


@pytest.mark.parametrize("way", ["run", "ssh"])
def test_no_command_in_a_host_can_set_this_machine_s_clock(host: Host, way: str) -> None:
    """Read, not tried: where it fails, trying would set the clock of everything on this machine."""
    status = getattr(host, way)(["cat", "/proc/self/status"]).stdout
    powers = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert powers["CapEff"], "root has no powers at all"
    assert not [name for name, bits in powers.items() if bits >> CAP_SYS_TIME & 1]


# --- power


def test_reboot_is_a_new_boot_with_an_empty_network(host: Host) -> None:
    before = host.boot_id()
    host.run(["ip", "route", "add", "blackhole", "198.51.100.0/24"])
    host.put("kept\n", "/root/kept")
    host.reboot()
    assert host.boot_id() != before
    assert "198.51.100.0" not in host.run(["ip", "route"]).stdout
    assert host.ssh(["cat", "/root/kept"]).stdout == "kept\n"


def test_power_cut_kills_everything_at_once(host: Host) -> None:
    host.put("kept\n", "/root/kept")
    host.run(["systemd-run", "--unit=marked", "sleep", "71717"])
    host.power_cut()
    assert not host.running()
    assert "71717" not in output("ps", "-eo", "args")
    host.boot()
    assert host.read("/root/kept") == "kept\n"
    assert "Finished" in host.run(["journalctl", "-b", "-1", "--no-pager"]).stdout
    assert "Power down" not in host.run(["journalctl", "-b", "-1", "--no-pager"]).stdout


def test_a_command_that_runs_does_not_hold_up_the_end(host: Host) -> None:
    """systemd stops every process before it kills them: who waits for one from outside must not stop as well."""
    with subprocess.Popen([*host.enter(), "sleep", "72727"]) as sleeper:
        time.sleep(0.3)
        host.power_off(timeout=20)
        assert sleeper.wait(5) != 0


def test_power_off_is_clean(host: Host) -> None:
    host.power_off()
    assert not host.running()
    with pytest.raises(LabError, match="is off"):
        host.run(["true"])


# --- snapshots and the tree


def test_restore_brings_back_exactly_the_tree(host: Host) -> None:
    host.run(["sh", "-c", "touch /srv/a && ln /srv/a /srv/b && setfattr -n user.x -v y /srv/a 2>/dev/null; true"])
    os.setxattr(host.root / "srv/a", "user.lab", b"value")
    host.power_off()
    before = host.tree_hash()
    host.snapshot("before")
    host.boot()
    host.run(["sh", "-c", "rm -rf /usr/share/doc /srv/b; echo x >>/etc/passwd; touch /etc/hosts; chmod 600 /srv/a"])
    assert host.tree_hash() != before
    host.power_off()
    host.restore("before")
    assert host.tree_hash() == before
    assert (host.root / "srv/a").samefile(host.root / "srv/b")
    assert os.getxattr(host.root / "srv/a", "user.lab") == b"value"


def test_restore_of_a_running_host_boots_it_again(host: Host) -> None:
    host.snapshot("live")
    host.put("later\n", "/root/later")
    host.restore("live")
    assert host.run(["ls", "/root"]).stdout == host.ssh(["ls", "/root"]).stdout
    assert not (host.root / "root/later").exists()


def test_restore_of_no_snapshot_says_so(host: Host) -> None:
    with pytest.raises(LabError, match="has no snapshot never"):
        host.restore("never")
    assert host.running()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ("chmod 600 etc/hosts", "etc/hosts"),
        ("chown 7 etc/hosts", "etc/hosts"),
        ("chgrp 7 etc/hosts", "etc/hosts"),
        ("touch -d 2001-01-01 etc/hosts", "etc/hosts"),
        ("cp -p etc/hosts h && sed -i s/loc/LOC/ etc/hosts && touch -r h etc/hosts && rm h", "etc/hosts"),
        ("ln -sfn /elsewhere etc/localtime", "etc/localtime"),
        ("mkfifo etc/pipe", "etc/pipe"),
        ("mkdir etc/folder", "etc/folder"),
    ],
)  # fmt: skip
def test_tree_hash_sees_every_kind_of_change(host: Host, change: str, path: str) -> None:
    host.power_off()
    host.snapshot("clean")
    before = host.tree_hash()
    subprocess.run(["sh", "-euc", change], cwd=host.root, check=True)
    after = host.tree_hash()
    host.restore("clean")
    assert before.get(path) != after[path]
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {path, "etc"}
    assert host.tree_hash() == before


def test_tree_hash_leaves_out_what_is_asked(host: Host) -> None:
    host.power_off()
    everything = host.tree_hash()
    without = host.tree_hash(exclude=["/var/log", "etc"])
    assert set(everything) - set(without) == {
        path for path in everything if path in ("var/log", "etc") or path.startswith(("var/log/", "etc/"))
    }
    assert not [path for path in everything if path.split("/")[0] in ("proc", "sys", "dev", "run", "tmp")]


def test_tree_hash_is_quick_the_second_time(host: Host) -> None:
    host.power_off()
    host.tree_hash()
    start = time.monotonic()
    assert len(host.tree_hash()) > 5000
    assert time.monotonic() - start < 1.5


# --- the network


def test_outside_reaches_port_22_and_nothing_else(lab: Lab, host: Host) -> None:
    outside = lab.namespace("outside")
    scan = (
        "import socket, sys\n"
        "for port in range(1, 65536):\n"
        "    with socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET) as s:\n"
        "        s.settimeout(1)\n"
        "        if s.connect_ex((sys.argv[1], port)) == 0: print(port)\n"
    )
    for address in (host.ipv4, host.ipv6):
        assert outside.run([sys.executable, "-c", scan, address]).stdout.split() == ["22"]
    assert host.ssh(["sh", "-c", "echo $SSH_CLIENT"], from_namespace="outside").stdout.split()[0] == outside.ipv4


def test_only_names_and_packages_leave_the_lab(lab: Lab, host: Host) -> None:
    """A packet for another port is dropped and counted; one for the VPN's network as well."""
    packets = ["bash", "-c", 'for to in 192.0.2.99/25 10.100.0.7/80; do timeout 1 bash -c ": >/dev/tcp/$to"; done']
    subprocess.run(["iptables", "-Z", f"MHLAB{lab.slot}"], check=True)
    host.run(packets, check=False)
    counted = output("iptables", "-nvxL", f"MHLAB{lab.slot}").splitlines()
    dropped = [int(line.split()[0]) for line in counted if "DROP" in line]
    accepted = [int(line.split()[0]) for line in counted if "ACCEPT" in line]
    assert sum(dropped) >= 1
    assert sum(accepted) == 0


@pytest.mark.parametrize("address", ["10.100.0.25", "10.213.254.9", "fd00:213:fff::1", "fd00:100::1"])
def test_this_machine_sends_lab_addresses_nowhere(lab: Lab, address: str) -> None:
    asked = subprocess.run(["ip", "route", "get", address], capture_output=True, text=True)
    assert asked.returncode != 0, asked.stdout


def test_hosts_do_not_share_control_groups(lab: Lab, host: Host) -> None:
    """systemd waits until the group of a unit is empty: were it shared, the other host's login would be in it."""
    other = lab.host("other")
    other.boot()
    groups = {one.name: Path(f"/proc/{one.pid1()}/cgroup").read_text().split("0::")[1] for one in (host, other)}
    assert groups["mail"] != groups["other"]
    login = [*host.ssh_command(), "sleep 60"]
    with subprocess.Popen(login) as open_login:
        other.ssh(["true"])
        other.power_off(timeout=20)
        assert open_login.poll() is None, "the other host's login ended with this one"
        open_login.kill()


def test_two_labs_at_once_do_not_meet(lab: Lab, host: Host) -> None:
    with Lab(f"second-{os.getpid()}") as other:
        assert other.slot != lab.slot
        there = other.host("mail")
        there.boot()
        assert there.ssh(["hostname", "-I"]).stdout.split()[0] == there.ipv4 != host.ipv4
        assert host.run(["ping", "-c1", "-W1", there.ipv4], check=False).returncode != 0
        assert host.run(["timeout", "2", "bash", "-c", f": >/dev/tcp/{there.ipv4}/22"], check=False).returncode != 0
    assert host.ssh(["true"]).returncode == 0


# --- nothing is left


TREES = "from labkit import store; print(store.trees())"
CRASHING = """
import sys, time
from labkit import Lab
lab = Lab(sys.argv[1])
lab.namespace("outside")
lab.host("mail").boot()
print(lab.slot, flush=True)
time.sleep(600)
"""


def test_a_lab_whose_process_was_killed_is_reaped() -> None:
    name = f"crash-{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", CRASHING, name], env={**os.environ, "PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        slot = int(process.stdout.readline())
        Lab.reap()
        assert name in Lab.names(), "reaped although its process lives"
        process.send_signal(signal.SIGKILL)
    kinds = {line.split()[0] for line in of_lab(name, slot)}
    assert kinds >= {"ps", "ip", "iptables-save", "ip6tables-save", "find"}, "the lab died with its process"
    trees = Path(output(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{TREES}").strip())
    assert list(trees.glob(f"*{name}*"))
    Lab.reap()
    assert name not in Lab.names()
    assert of_lab(name, slot) == []
    assert list(trees.glob(f"*{name}*")) == []


def test_a_recycled_process_number_is_not_the_owner() -> None:
    this = lab_processes.Owner.this()
    assert this.alive()
    assert not lab_processes.Owner(this.pid, (this.start or 0) - 1, this.boot).alive()
    assert not lab_processes.Owner(this.pid, this.start, "another boot").alive()


def test_a_lab_of_another_process_is_refused() -> None:
    with Lab(f"mine-{os.getpid()}") as mine:
        taken = subprocess.run(
            [sys.executable, "-c", f"from labkit import Lab; Lab({mine.name!r})"],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
        )
        assert f"belongs to process {os.getpid()}" in taken.stderr


def test_names_that_would_be_paths_are_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="no name for a lab"):
        Lab("../x")
    with pytest.raises(LabError, match="no name for a host"):
        lab.host("a/b")


# --- the command line, as if on another machine: a network, mounts, a /run and a cache directory of its own


@pytest.fixture
def machine() -> Iterator[list[str]]:
    """What to put before a command so that it runs where no other lab is."""
    script = (
        "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec sleep 600"
    )
    with subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield ["nsenter", "-t", str(holder.pid), "--net", "--mount"]
        holder.kill()


@pytest.fixture(params=["btrfs", "copy"])
def elsewhere(
    request: pytest.FixtureRequest, machine: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A cache directory with a copy of the base image, to save the minute of building one."""
    built = labkit("base").stdout.strip()
    monkeypatch.setenv("MAILHOST_LAB_STORE", request.param)
    env = {**os.environ, "PYTHONPATH": str(TESTS), "MAILHOST_LAB_DIR": str(tmp_path)}
    script = f"{TREES}; import subprocess; subprocess.run(['cp', '-a', {built!r}, store.trees()], check=True)"
    # The store is unmounted by `down --all` and mounted again by what comes next.
    subprocess.run([*machine, sys.executable, "-c", script], env=env, check=True)
    labkit("down", "--all", directory=tmp_path, machine=machine)
    yield tmp_path
    labkit("down", "--all", directory=tmp_path, machine=machine)


@pytest.mark.shown_by("btrfs")
def test_the_command_line_from_up_to_down(elsewhere: Path, machine: list[str]) -> None:
    def lab(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return labkit(*words, directory=elsewhere, machine=machine, check=check)

    def remains() -> list[str]:
        return [line for line in everything(machine) if not line.startswith("ps") or str(elsewhere) in line]

    before = remains()
    assert "10.213.1." in lab("up", "--name", "cli").stdout
    roster = json.loads(lab("up", "--name", "cli", "--print-roster").stdout)
    assert roster["mail"]["host_key"].startswith("ssh-ed25519 ")
    assert lab("list").stdout.startswith("cli/mail 10.213.1.")
    assert lab("run", "mail", "--", "cat", "/etc/hostname").stdout == "vultr\n"
    assert lab("run", "mail", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    lab("snapshot", "mail", "fresh")
    lab("run", "mail", "--", "touch", "/root/new")
    lab("reboot", "mail")
    lab("run", "mail", "--", "test", "-e", "/root/new")
    lab("restore", "cli/mail", "fresh")
    lab("run", "mail", "--", "test", "!", "-e", "/root/new")
    lab("power-cut", "mail")
    said = lab("run", "mail", "--", "true", check=False)
    assert (said.returncode, said.stderr) == (1, "labkit: host mail is off\n")
    lab("up", "--name", "cli")
    lab("run", "mail", "--", "true")
    during = remains()
    assert "sysctl net.ipv4.ip_forward = 1" in during
    assert any("blackhole 10.100.0.0/24" in line for line in during)
    group = boot.group(elsewhere / "trees/cli.mail")
    assert group in output("find", "/sys/fs/cgroup", "-type", "d", "-path", "*mailhost-lab/*")
    lab("down", "--all")
    assert [line for line in remains() if "/run/" not in line] == [line for line in before if "/run/" not in line]
    assert not [line for line in remains() if line.startswith("find") and ("slot-" in line or "/run/netns/" in line)]
    assert list((elsewhere / "labs").iterdir()) == []
    lab("down", "--all")
    assert group not in output("find", "/sys/fs/cgroup", "-type", "d", "-path", "*mailhost-lab/*")
    names = {path.name.split("-")[0] for path in (elsewhere / "trees").iterdir()}
    assert names <= {"base"}, "a host's files are left in the store"


def test_errors_are_one_sentence() -> None:
    said = labkit("shell", "nobody", check=False)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)
    assert "there is no host nobody" in said.stderr


def test_not_root_is_said(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(TESTS), "MAILHOST_LAB_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-m", "labkit", "up"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "run it as root" in said.stderr
