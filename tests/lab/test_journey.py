"""One state.apply takes a fresh host, entered as root on its public address, to one that is entered by the VPN only.

The operator's workstation is a peer of the VPN in a namespace of its own; salt-ssh runs there, the same command each
time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiled import ROOT
from labkit import Host, Lab
from labkit.checkout import QUICK, Checkout, Run
from labkit.tools import run
from labkit.vpn import PLACEHOLDER, Peer

pytestmark = pytest.mark.lab

ADDRESS, PORT = "10.100.0.25", 2288


class Journey:
    """A host, and the operator who is on the way to it."""

    def __init__(self, lab: Lab, host: Host, checkout: Checkout) -> None:
        self.host, self.checkout = host, checkout
        self.peer = Peer(lab, "laptop")
        self.outside = lab.namespace("outside")
        key = run(["wg", "genkey"]).stdout.strip()
        pillar = checkout.good_pillar(host)
        pillar["vpn"] = {"private_key": key, "peers": self.peer.pillar()}
        checkout.pillar(pillar)
        self.configuration = "\n".join(
            [
                "[Interface]",
                f"PrivateKey = {PLACEHOLDER}",
                "Address = 10.100.0.2/24",
                "[Peer]",
                f"PublicKey = {run(['wg', 'pubkey'], input=key).stdout.strip()}",
                f"Endpoint = {host.ipv4}:51820",
                "AllowedIPs = 10.100.0.0/24",
                "PersistentKeepalive = 5",
                "",
            ]
        )

    def apply(self, *sls: str, test: bool = False) -> Run:
        return self.checkout.apply(*sls, test=test, inside=self.peer.namespace)

    def gets_in(self, seconds: float = 60) -> float:
        """Return after how many seconds the operator got in by the VPN."""
        begun = time.monotonic()
        while True:
            login = self.host.ssh_command("phalkonadmin", PORT, ADDRESS)
            if self.peer.namespace.run([*login, "sudo", "-n", "true"], check=False).returncode == 0:
                return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, "the operator is locked out"
            time.sleep(0.5)

    def closed_outside(self) -> bool:
        """Whether neither port answers anybody on the public side."""
        probe = "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); sys.exit(0)"
        return all(
            self.outside.run(["python3", "-c", probe, address, str(port)], check=False).returncode != 0
            for address in (self.host.ipv4, self.host.ipv6)
            for port in (22, PORT)
        )


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """The journey's end: the tests before it check the way there."""
    with Lab("journey") as lab:
        host = lab.host("mail")
        host.boot()
        with Checkout(tmp_path_factory.mktemp("journey") / "c", host) as checkout:
            made = Journey(lab, host, checkout)
            made.peer.connect(made.configuration, wait=0)
            yield made


def test_a_fresh_host_becomes_the_finished_one_in_one_run(journey: Journey) -> None:
    predicted = journey.apply(test=True)
    assert predicted.returncode == 0, predicted.result
    real = journey.apply()
    assert real.returncode == 0, real.result
    assert "root@" in real.stderr
    assert real.stderr.count("armed, goes back in 10 min") == real.stderr.count("confirmed by a new login") >= 5

    def keys(found: Run) -> set[tuple[str, str]]:
        return {(state, key) for state, changes in found.changed.items() for key in changes}

    assert keys(predicted) == keys(real)
    assert real.marks["1.3.4"] == "[x]"
    again = journey.apply()
    assert (again.returncode, again.changed) == (0, {})
    assert f"phalkonadmin@{ADDRESS}:{PORT} (VPN)" in again.stderr
    assert journey.closed_outside()


def test_the_host_is_entered_after_a_reboot(journey: Journey) -> None:
    order = journey.host.run(["systemctl", "show", "-P", "After", "ssh.service"]).stdout
    assert "wg-quick@wg0.service" in order
    journey.host.reboot(port=None)
    print(f"login {journey.gets_in():.1f} s after the reboot")
    again = journey.apply()
    assert (again.returncode, again.changed) == (0, {})


def test_a_restart_of_the_tunnel_does_not_end_ssh(journey: Journey) -> None:
    journey.host.run(["systemctl", "restart", "wg-quick@wg0"])
    journey.gets_in()
    journey.host.run(["systemctl", "stop", "wg-quick@wg0"])
    journey.host.run(["systemctl", "restart", "ssh"])
    journey.host.run(["systemctl", "start", "wg-quick@wg0"])
    journey.gets_in()


def test_a_new_openssh_package_leaves_it_as_it_is(journey: Journey) -> None:
    reinstall = [
        "apt-get",
        "install",
        "-y",
        "-q",
        "--reinstall",
        "-o",
        "Dpkg::Options::=--force-confold",
        "openssh-server",
    ]
    journey.host.run(["env", "DEBIAN_FRONTEND=noninteractive", *reinstall])
    journey.gets_in()
    assert journey.closed_outside()


def test_a_peer_that_is_gone_is_said_in_a_sentence(journey: Journey) -> None:
    journey.peer.disconnect()
    lost = journey.apply("access.admin")
    assert lost.returncode == 1
    assert "mail: no endpoint lets us in" in lost.stderr
    journey.peer.connect(journey.configuration, wait=30)
    journey.gets_in()


def test_the_sheet_for_the_console_lets_the_operator_in(journey: Journey) -> None:
    """The page's and the sheet's commands, typed on the console of a host whose VPN is gone; then all closes again."""
    status = journey.host.run(["stat", "-c", "%a %U", "/root/RESCUE.md"]).stdout.strip()
    assert status == "600 root"
    sheet = journey.host.run(["cat", "/root/RESCUE.md"]).stdout
    page = (ROOT / "docs/operations/rescue.md").read_text(encoding="utf-8")
    commands = page.split("```bash\n")[2].split("```")[0].strip().splitlines()
    assert len(commands) == 3
    for command in commands:
        for words in command.split(" && "):
            assert re.sub(r" -f ", " ", words) in sheet, "the page and the sheet say different things"
    journey.peer.disconnect()
    for command in commands:
        journey.host.run(["sh", "-c", command])
    assert journey.host.ssh(["sudo", "-n", "true"], user="phalkonadmin", port=PORT, check=False).returncode == 0
    journey.peer.connect(journey.configuration, wait=30)
    closing = journey.apply()
    assert closing.returncode == 0, closing.result
    assert set(closing.changed) >= {"sshd: bound to the VPN addresses"}
    journey.gets_in()


@pytest.mark.thorough("what a quicker test shows in part")
def test_nothing_moves_without_a_handshake(tmp_path: Path, fresh: Host, mail_lab: Lab) -> None:
    """A peer that is declared and never comes: sshd stays where the operator is."""
    with Checkout(tmp_path / "c", fresh) as checkout:
        absent = Peer(mail_lab, "absent")
        vpn = {"peers": absent.pillar()}
        checkout.pillar({**checkout.good_pillar(fresh), "hardening": QUICK, "vpn": vpn})
        module = checkout.directory / "_states/mailhost_sshd.py"
        text = module.read_text()
        assert "WAIT_SECONDS = 60" in text
        module.write_text(text.replace("WAIT_SECONDS = 60", "WAIT_SECONDS = 2"))
        stopped = checkout.apply("ssh.vpn_only")
        assert stopped.returncode != 0
        assert "no peer has shaken hands on wg0" in stopped["sshd: bound to the VPN addresses"].comment
        assert checkout.apply("access.admin").returncode == 0
