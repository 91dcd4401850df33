"""The pillar as Salt compiles it from the files: one environment, encrypted values, all errors at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compiled import GOOD, ROOT
from labkit.checkout import Checkout

# What _roster/mailhost.py does before it connects.
COMPILE = """
import json, sys
import salt.config, salt.pillar
opts = salt.config.master_config("etc/salt/master")
opts.update(id="mail", argv=sys.argv[1:])
grains = {"id": "mail", "mailhost_environment": "prod"}
print(json.dumps(salt.pillar.Pillar(opts, grains, "mail", "base").compile_pillar()))
"""
HASH = "$y$j9T$canary0canary0canary0$abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    with Checkout(tmp_path / "c") as made:
        for environment in ("dev", "staging", "prod"):
            port = {"dev": 2201, "staging": 2202, "prod": 2203}[environment]
            made.pillar({**GOOD, "ssh": {"port": port}}, environment)
        shutil.copy(ROOT / "Makefile", made.directory)
        yield made
        _end_gpg_agent(made.directory / ".salt/gpg")


def _end_gpg_agent(home: Path) -> None:
    """End the agent that gpg started for a key directory; it would stay for a while."""
    if home.is_dir():
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def compiled(checkout: Checkout, *argv: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *argv],
        cwd=checkout.directory,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("argv", "env", "port"),
    [
        ([], {}, 2203),
        (["pillarenv=staging"], {}, 2202),
        ([], {"MAILHOST_ENV": "dev"}, 2201),
        (["pillarenv=staging"], {"MAILHOST_ENV": "dev"}, 2202),
    ],
)
def test_one_environment_and_nothing_of_the_others(
    checkout: Checkout, argv: list[str], env: dict[str, str], port: int
) -> None:
    for environment in ("dev", "staging", "prod"):
        path = checkout.directory / "pillar" / environment / "init.sls"
        path.write_text(path.read_text() + f"vpn: {{address: 10.{ord(environment[0])}.0.1/24}}\n")
    found = compiled(checkout, *argv, env=env)
    assert found["ssh"]["port"] == port
    others = {f"10.{ord(letter)}.0.1/24" for letter in "dsp"} - {found["vpn"]["address"]}
    assert len(others) == 2
    assert not any(other in json.dumps(found) for other in others)


@pytest.mark.parametrize("word", ["pillarenv=stagin", "pillarenv=", "pillarenv=base"])
def test_an_unknown_environment_gives_no_pillar_at_all(checkout: Checkout, word: str) -> None:
    found = compiled(checkout, word)
    assert set(found) == {"_errors"}
    assert found["_errors"] == [f"pillarenv: {word[10:]!r} is no environment; there are dev, staging, prod"]


def test_everything_that_is_wrong_is_said_at_once(checkout: Checkout) -> None:
    checkout.pillar({"ssh": {"port": 0}, "surplus": 1}, "prod")
    errors = compiled(checkout)["_errors"]
    assert [sentence.split(":")[0] for sentence in errors] == ["surplus", "access.admin.ssh_keys", "ssh.port"]


def test_secrets_are_made_and_read_as_the_page_says(checkout: Checkout) -> None:
    page = (ROOT / "docs/operations/secrets.md").read_text(encoding="utf-8")
    commands = [block.split("```")[0].strip() for block in page.split("```bash\n")[1:]]
    assert commands == ["make secrets-key", "make secret"]
    (checkout.directory / ".venv/bin").mkdir(parents=True)
    for name in ("requirements.lock", ".venv/bin/.done"):
        (checkout.directory / name).touch()
    typed = {"cwd": checkout.directory, "text": True, "capture_output": True, "check": True}
    subprocess.run(["make", "secrets-key"], **typed)  # type: ignore[call-overload]
    block = subprocess.run(["make", "-s", "secret"], input=f"{HASH}\n", **typed).stdout  # type: ignore[call-overload]
    assert HASH not in block
    text = f"#!yaml|gpg\naccess:\n  admin:\n    password_hash: |\n{textwrap.indent(block, '      ')}"
    (checkout.directory / "pillar/prod/encrypted.sls").write_text(text)
    assert compiled(checkout)["access"]["admin"]["password_hash"] == HASH
    assert compiled(checkout, "pillarenv=dev")["access"]["admin"]["password_hash"] is None
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"
    block = subprocess.run(["make", "-s", "secret"], input=f"{key}\n", **typed).stdout  # type: ignore[call-overload]
    decrypt = ["gpg", "--homedir", ".salt/gpg", "--quiet", "--decrypt"]
    assert subprocess.run(decrypt, input=block, **typed).stdout == key  # type: ignore[call-overload]
    again = subprocess.run(["make", "secrets-key"], **{**typed, "check": False})  # type: ignore[call-overload]
    assert again.returncode != 0
    assert "is there already" in again.stdout
