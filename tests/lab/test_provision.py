"""`make provision` against a stand-in for Vultr whose instances are real hosts: ordered, met, entered, applied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit import Host
from labkit.checkout import Checkout, Result
from labkit.provider import KEY, PASSWORD, Provider

pytestmark = pytest.mark.lab


class Vultr:
    """The stand-in, and what the operator types."""

    def __init__(self, provider: Provider, checkout: Checkout, host: Host) -> None:
        self.provider, self.checkout, self.host = provider, checkout, host

    def provision(self, *words: str, **env: str) -> Result:
        """Do what `make provision` does."""
        return self.checkout.local("state.apply", "instance", *words, env=self.provider.environment(**env))

    @property
    def known(self) -> dict[str, Any]:
        """What the roster has been told."""
        found: dict[str, Any] = yaml.safe_load((self.checkout.directory / "etc/salt/roster.d/mail").read_text())
        return found


def first_boot(host: Host) -> Any:
    """Return what makes an ordered instance real: the host boots with what cloud-init would have made of its files."""

    def build(instance: dict[str, Any]) -> tuple[str, str]:
        told = yaml.safe_load(instance["user_data"])
        assert instance["user_data"].startswith("#cloud-config\n")
        for key in (host.root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        host.put(told["ssh_keys"]["ed25519_private"], "/etc/ssh/ssh_host_ed25519_key", 0o600)
        host.put(told["ssh_keys"]["ed25519_public"] + "\n", "/etc/ssh/ssh_host_ed25519_key.pub")
        host.put("\n".join(instance["keys"]) + "\n", "/root/.ssh/authorized_keys", 0o600)
        host.boot(port=None)
        return host.ipv4, host.ipv6

    return build


@pytest.fixture
def vultr(_mail: Host, _thin: Path, tmp_path: Path) -> Iterator[Vultr]:
    """A checkout that knows no address, and an account without an instance."""
    _mail.power_cut()
    _mail.restore("pristine")
    with (
        Provider(first_boot(_mail), seconds=1) as provider,
        Checkout(tmp_path / "c", _mail, _thin) as checkout,
    ):
        checkout.roster({"mail": {"priv": str(_mail.directory / "id_ed25519")}})
        yield Vultr(provider, checkout, _mail)


def everything_below(directory: Path) -> str:
    """Return the text of all files below a directory."""
    return "\n".join(path.read_text(errors="replace") for path in directory.rglob("*") if path.is_file())


def test_from_nothing_to_the_first_task(vultr: Vultr) -> None:
    """Dry run, order, first contact, and the tree applied over the roster that it wrote."""
    log = vultr.checkout.directory / "libcloud.log"
    dry = vultr.provision("test=True")
    assert dry.returncode == 0, dry
    assert vultr.provider.writes == []

    real = vultr.provision("-l", "all", LIBCLOUD_DEBUG=str(log))
    assert real.returncode == 0, real
    assert real.stdout.replace(" (would change)", "") == dry.stdout.replace(" (would change)", "")
    (instance,) = vultr.provider.instances.values()
    wanted = ("mail-dev", "vc2-2c-4gb", "dfw", 2625, ["mailhost"], "mail")
    assert tuple(instance[name] for name in ("label", "plan", "region", "os_id", "tags", "hostname")) == wanted
    assert sorted(instance["features"]) == ["auto_backups", "ipv6"]
    assert vultr.provider.schedules[instance["id"]]["type"] == "daily"

    # The key that was in the user data is no longer the host's, and no longer in the user data.
    assert vultr.known == {
        "host": [vultr.host.ipv4, vultr.host.ipv6],
        "environment": "dev",
        "host_key": vultr.host.host_key,
    }
    (order,) = [body for method, path, body in vultr.provider.asked if (method, path) == ("POST", "/v2/instances")]
    assert vultr.host.host_key.split()[1] not in everything_below(vultr.checkout.directory / ".salt/first")
    assert vultr.provider.user_data[instance["id"]] == "#cloud-config\n"
    assert not (vultr.checkout.directory / ".salt/first").exists() or not list(
        (vultr.checkout.directory / ".salt/first").iterdir()
    )
    assert order["activation_email"] is False

    # Neither the API key nor the root password is anywhere.
    everything = real.stdout + real.stderr + everything_below(vultr.checkout.directory)
    assert KEY not in everything
    assert PASSWORD not in everything

    # Both survive a power cut.
    vultr.host.power_cut()
    vultr.host.boot()
    asked = len(vultr.provider.writes)
    again = vultr.provision()
    assert again.returncode == 0, again
    assert again.stdout == "the instance is there, and the roster knows it\n    mail-dev is as declared\n"
    assert len(vultr.provider.writes) == asked

    run = vultr.checkout.apply("access.sudo")
    assert run.returncode == 0, run.result
    assert (run.marks["1.1.1"], run.marks["1.2.1"]) == ("[x]", "[x]")
    assert f"mail: dev, by root@{vultr.host.ipv4}:22 (public)" in run.stderr


def test_a_first_contact_that_broke_off_goes_on(vultr: Vultr) -> None:
    """The workstation dies after the host has changed its key, and before the roster has it."""
    config = vultr.checkout.directory / "etc/workstation/minion"
    config.write_text(config.read_text().replace("mailhost_wait_seconds: 900", "mailhost_wait_seconds: 20"))
    contact = vultr.checkout.directory / "_modules/mailhost_contact.py"
    whole = contact.read_text()
    changed = "        met = Host(host, tuple(addresses)"
    assert changed in whole
    contact.write_text(whole.replace(changed, f"        raise SystemExit(9)\n{changed}"))
    assert vultr.provision().returncode != 0
    assert not (vultr.checkout.directory / "etc/salt/roster.d/mail").exists()
    contact.write_text(whole)
    run = vultr.provision()
    assert run.returncode == 0, run
    assert vultr.known["host_key"] == vultr.host.host_key
    assert len(vultr.provider.instances) == 1


def test_somebody_else_at_the_address_is_not_taken_for_the_host(vultr: Vultr) -> None:
    """Whoever answers without the key that was given to cloud-init gets no login, and the roster nothing."""
    config = vultr.checkout.directory / "etc/workstation/minion"
    config.write_text(config.read_text().replace("mailhost_wait_seconds: 900", "mailhost_wait_seconds: 4"))
    make = first_boot(vultr.host)

    def other(instance: dict[str, Any]) -> tuple[str, str]:
        addresses: tuple[str, str] = make(instance)
        vultr.host.run(["sh", "-euc", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh"])
        return addresses

    vultr.provider._build = other
    run = vultr.provision()
    assert run.returncode != 0
    assert "its host key is not the" in run.stdout, run
    assert "Accepted" not in vultr.host.run(["journalctl", "-q", "-b", "-t", "sshd-session"]).stdout
    assert not (vultr.checkout.directory / "etc/salt/roster.d/mail").exists()


def test_a_host_that_does_not_answer(vultr: Vultr) -> None:
    """It is waited for, and not for ever; when it comes up the next run goes on."""
    config = vultr.checkout.directory / "etc/workstation/minion"
    config.write_text(config.read_text().replace("mailhost_wait_seconds: 900", "mailhost_wait_seconds: 6"))
    make = first_boot(vultr.host)

    def dead(instance: dict[str, Any]) -> tuple[str, str]:
        addresses: tuple[str, str] = make(instance)
        vultr.host.power_cut()
        return addresses

    vultr.provider._build = dead
    run = vultr.provision()
    assert run.returncode != 0
    assert "mail does not let us in after 6 s" in run.stdout, run
    assert "run again, it goes on from there" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    vultr.host.boot()
    run = vultr.provision()
    assert run.returncode == 0, run
    assert len(vultr.provider.instances) == 1


@pytest.mark.thorough("what a quicker test shows in part")
def test_what_is_typed_to_make(vultr: Vultr) -> None:
    """The targets pass it on; a name that was not typed twice destroys nothing, and no address is a default."""
    binaries = str(Path(sys.executable).parent)
    (vultr.checkout.directory / ".venv").mkdir()
    (vultr.checkout.directory / ".venv/bin").symlink_to(binaries)
    for name in ("Makefile", "requirements.lock"):
        (vultr.checkout.directory / name).write_text((Path(__file__).parents[2] / name).read_text())

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        argv = ["make", "-s", "-o", "setup", *words]
        env = vultr.checkout.environment(vultr.provider.environment())
        del env["MAILHOST_ENV"]
        return subprocess.run(
            argv, cwd=vultr.checkout.directory, env=env, capture_output=True, text=True, check=False, timeout=200
        )

    done = make("provision")
    assert "no environment is named" in done.stdout + done.stderr, done
    assert not vultr.provider.instances
    done = make("provision", "ENV=dev")
    assert done.returncode == 0, done
    # From here on the roster knows it.
    done = make("provision")
    assert done.returncode == 0, done
    for words in ([], ["CONFIRM=mail"], ["HOST=mail"], ["HOST=mail", "CONFIRM=male"]):
        done = make("destroy", *words)
        assert done.returncode != 0, words
        assert "mail is not destroyed" in done.stdout, done
    assert len(vultr.provider.instances) == 1
    done = make("destroy", "HOST=mail", "CONFIRM=mail", "TEST=1")
    assert "(would change)" in done.stdout, done
    assert len(vultr.provider.instances) == 1
    done = make("destroy", "HOST=mail", "CONFIRM=mail")
    assert done.returncode == 0, done
    assert not vultr.provider.instances
    assert not (vultr.checkout.directory / "etc/salt/roster.d/mail").exists()
    done = make("destroy", "HOST=mail", "CONFIRM=mail", "ENV=dev")
    assert "there is no instance mail-dev" in done.stdout, done

    # The host is there still: somebody who moves out of Vultr's API can keep it.
    shown = vultr.host.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()[1]
    done = make("adopt", "ENV=dev")
    assert "give the host's address" in done.stdout, done
    done = make("adopt", f"HOST={vultr.host.ipv4}", "ENV=dev")
    assert f"run again with FINGERPRINT={shown}" in done.stdout, done
    done = make("adopt", f"HOST={vultr.host.ipv4}", f"FINGERPRINT={shown}", "ENV=dev")
    assert done.returncode == 0, done
    assert vultr.known["host"] == [vultr.host.ipv4]


def encrypted(checkout: Checkout, text: str) -> str:
    """Return a text as `make secret` encrypts it, to a key as `make secrets-key` makes it."""
    home = checkout.directory / ".salt/gpg"
    home.mkdir(parents=True, mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    made = [*gpg, "--passphrase", "", "--quick-generate-key", "mailhost", "default", "default", "never"]
    subprocess.run(made, check=True, capture_output=True)
    words = [*gpg, "--armor", "--trust-model", "always", "--encrypt", "--recipient", "mailhost"]
    return subprocess.run(words, check=True, capture_output=True, text=True, input=text).stdout


def test_the_api_key_of_the_pillar_is_the_workstation_s_alone(fresh: Host, checkout: Checkout) -> None:
    """Encrypted in provider.sls it is used here; no host gets it, and a file that hosts get must not have it."""
    secret = encrypted(checkout, KEY)
    try:
        folder = checkout.directory / "pillar/dev"
        (folder / "provider.sls").write_text("#!yaml|gpg\n" + yaml.safe_dump({"vultr_api_key": secret}))
        with Provider() as provider:
            env = provider.environment()
            del env["VULTR_API_KEY"]
            there = checkout.local("state.apply", "instance", "test=True", env=env)
            assert there.returncode != 0, there
            assert "Vultr has no instance mail-dev: give another HOST=" in there.stdout, there
            checkout.roster({"mail": {}})
            dry = checkout.local("state.apply", "instance", "test=True", "-l", "debug", env=env)
            assert dry.returncode == 0, dry
            assert "instance: nothing -> mail-dev" in dry.stdout
            assert KEY not in dry.stdout + dry.stderr
        checkout.roster({"mail": checkout.entry(fresh)})
        items = checkout.salt("mail", "pillar.items", "--out=json")
        assert items.data()["mail"]["provision"]["plan"] == "vc2-2c-4gb"
        assert "vultr_api_key" not in items.stdout
        assert checkout.apply("access.sudo").returncode == 0
        known = everything_below(checkout.directory)
        assert KEY not in known
        found = fresh.run(
            ["grep", "-rlsF", "-e", KEY, "-e", "vultr_api_key:", "/root", "/var/tmp", "/tmp"], check=False
        )
        assert found.stdout == ""

        init = folder / "init.sls"
        init.write_text(init.read_text() + f"vultr_api_key: {KEY}\n")
        refused = checkout.salt("mail", "state.apply", "access.sudo")
        assert refused.returncode != 0
        assert "vultr_api_key: the host would get it: it belongs into pillar/dev/provider.sls" in refused.stderr, (
            refused
        )
        assert KEY not in refused.stdout + refused.stderr
    finally:
        subprocess.run(["gpgconf", "--homedir", str(checkout.directory / ".salt/gpg"), "--kill", "all"], check=False)
