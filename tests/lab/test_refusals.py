"""What the tree will not do: it says why in one sentence, the dry run says it too, and nothing is half done."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import Host
from labkit.checkout import Checkout, Run
from labkit.evidence import evidence

from .conftest import ACCESS

pytestmark = pytest.mark.lab

HOME = "/home/phalkonadmin"
KEYS = f"{HOME}/.ssh/authorized_keys"


def refused(checkout: Checkout, sentence: str, *state_ids: str) -> Run:
    """Fail unless dry run and apply each fail at one of some states, with a sentence; return the apply."""
    dry = checkout.apply(*ACCESS, test=True)
    real = checkout.apply(*ACCESS)
    for run in (dry, real):
        assert run.returncode != 0, run.result
        ((state_id, comment),) = run.failed.items()
        assert state_id in state_ids
        assert sentence in comment
    assert "[!]" in real.marks.values()
    return real


def root_gets_in(host: Host) -> bool:
    return host.ssh(["true"], check=False).returncode == 0


@pytest.mark.shown_by("link")
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("ln -s /etc/hostname", "/etc/sudoers.d/90-nopasswd-sudo: is a link, not a file; move it away and apply again"),
        ("mkdir", "/etc/sudoers.d/90-nopasswd-sudo: is a directory, not a file; move it away and apply again"),
        ("mkfifo", "/etc/sudoers.d/90-nopasswd-sudo: is a special file, not a file; move it away and apply again"),
    ],
    ids=["link", "directory", "pipe"],
)
def test_something_else_for_the_sudoers_file(fresh: Host, checkout: Checkout, script: str, sentence: str) -> None:
    fresh.run(["sh", "-euc", f"{script} /etc/sudoers.d/90-nopasswd-sudo"])
    before = evidence(fresh)
    real = refused(checkout, sentence, "sudo asks its group for no password")
    assert real.changed == {}
    assert before.differences(evidence(fresh)) == []


def test_uid_held_by_another(fresh: Host, checkout: Checkout) -> None:
    fresh.run(["sh", "-euc", "usermod -u 1500 linuxuser; useradd -m -u 1000 -g users deploy"])
    sentence = "uid 1000, wanted for phalkonadmin, belongs to deploy: remove or move that account"
    refused(checkout, sentence, "phalkonadmin exists", "1.2.2 is proven")
    assert "deploy:x:1000:" in fresh.read("/etc/passwd")
    assert "phalkonadmin" not in fresh.read("/etc/passwd")
    assert root_gets_in(fresh)


@pytest.mark.thorough("what a quicker test shows in part")
def test_gid_held_by_another(fresh: Host, checkout: Checkout) -> None:
    fresh.run(["sh", "-euc", "groupmod -g 1500 linuxuser; groupadd -g 1000 deploy"])
    sentence = "gid 1000, wanted for phalkonadmin, belongs to group deploy: remove or move it"
    refused(checkout, sentence, "phalkonadmin exists")
    assert root_gets_in(fresh)


@pytest.mark.thorough("what a quicker test shows in part")
def test_logged_in_as_the_account_that_goes(fresh: Host, checkout: Checkout) -> None:
    fresh.run(["sh", "-euc", "cp -r /root/.ssh /home/linuxuser/; chown -R linuxuser: /home/linuxuser/.ssh"])
    checkout.roster({"mail": checkout.entry(fresh, user="linuxuser")})
    sentence = "linuxuser cannot be removed by a run that came in as linuxuser: log in as root or as the admin"
    refused(checkout, sentence, "linuxuser does not exist")
    assert fresh.ssh(["sudo", "-n", "true"], user="linuxuser").returncode == 0
    checkout.roster({"mail": checkout.entry(fresh)})
    assert checkout.apply(*ACCESS).returncode == 0


@pytest.mark.shown_by("link")
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (f"mv {KEYS} /srv/keys; ln -s /srv/keys {KEYS}", f"{KEYS}: is a link, not a file; move it away"),
        (f"rm {KEYS}; mkdir {KEYS}", f"{KEYS}: is a directory, not a file; move it away"),
        (f"cd {HOME}; mv .ssh /srv/ssh; ln -s /srv/ssh .ssh", f"{HOME}/.ssh: is a link, not a directory; move it away"),
        (f"cd {HOME}; rm -r .ssh; touch .ssh", f"{HOME}/.ssh: is a file, not a directory; move it away"),
    ],
    ids=["link", "directory", "linked directory", "file for a directory"],
)  # fmt: skip
def test_keys_that_are_no_file(entered: Host, checkout: Checkout, script: str, sentence: str) -> None:
    entered.run(["sh", "-euc", f"rm /etc/ssh/sshd_config.d/00-mailhost-root.conf; systemctl restart ssh; {script}"])
    refused(checkout, sentence, "phalkonadmin logs in with the declared keys only")
    assert root_gets_in(entered)


@pytest.fixture
def other_key(tmp_path: Path) -> Callable[[], str]:
    """Return how to get the public half of a key that the operator of the run does not have."""

    def made() -> str:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f", tmp_path / "bob"], check=True)
        return (tmp_path / "bob.pub").read_text().strip()

    return made


def test_no_login_seen_no_lock(fresh: Host, checkout: Checkout, other_key: Callable[[], str]) -> None:
    """The declared keys are not the operator's: nobody has been seen to come in as the admin, so root stays."""
    checkout.pillar({"access": {"admin": {"ssh_keys": [other_key()]}}})
    run = checkout.apply(*ACCESS)
    assert run.returncode != 0
    (said,) = run.failed.values()
    assert "no login of phalkonadmin by a declared key, with sudo, was seen within" in said
    assert "Permission denied (publickey" in run.stderr
    assert root_gets_in(fresh)
    assert run.marks["1.2.5"] == "[!]"
    checkout.pillar(checkout.good_pillar(fresh))
    assert checkout.apply(*ACCESS).returncode == 0
    assert not root_gets_in(fresh)


@pytest.mark.thorough("what a quicker test shows in part")
def test_no_sudo_no_lock(fresh: Host, checkout: Checkout) -> None:
    """The admin gets in but not further: a PAM stack that refuses sudo, say."""
    fresh.run(["sh", "-euc", "sed -i '1i account required pam_succeed_if.so user != phalkonadmin' /etc/pam.d/sudo"])
    run = checkout.apply(*ACCESS)
    assert run.returncode != 0
    (said,) = run.failed.values()
    assert "no login of phalkonadmin by a declared key, with sudo, was seen" in said or "has no sudo" in said
    assert root_gets_in(fresh)
