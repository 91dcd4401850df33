"""fail2ban that somebody spoiled, by its files or at run time: the dry run says it, and the apply puts it right."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import Host
from labkit.checkout import QUICK, Checkout

from .conftest import Exact, _kept, _started
from .tampering import Tamper, each

pytestmark = pytest.mark.lab

SLS = "fail2ban.jails"
TASK = "1.3.5"
TAMPERS = [
    Tamper(
        "jail file edited",
        ("sed -i 's/^maxretry = 3/maxretry = 30/' /etc/fail2ban/jail.local; systemctl restart fail2ban"),
    ),
    Tamper(
        "jail files broken",
        (
            "cd /etc/fail2ban; echo x >jail.local; echo x >action.d/nftables-common.local; rm fail2ban.local;"
            "systemctl restart fail2ban; while systemctl -q is-active fail2ban; do sleep 0.1; done"
        ),
    ),
    Tamper("jail switched off", "fail2ban-client stop sshd"),
    Tamper(
        "jail's settings changed at run time",
        ("fail2ban-client set sshd maxretry 99; fail2ban-client set recidive delignoreip 10.100.0.0/24"),
    ),
    Tamper("bans flushed from the kernel", "fail2ban-client set sshd banip 192.0.2.9; nft flush ruleset"),
    Tamper("fail2ban stopped and disabled", "systemctl disable --now fail2ban"),
    Tamper("fail2ban masked", "systemctl mask --now fail2ban"),
    Tamper("fail2ban removed", "apt-get -qy purge fail2ban nftables"),
]


@pytest.fixture(scope="module")
def _guarded(_mail: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``guarded``: fail2ban and what it needs."""
    _started(_mail, "pristine")
    with Checkout(tmp_path_factory.mktemp("guarded") / "c", _mail, _thin) as checkout:
        checkout.pillar(pillar(_mail))
        applied = checkout.apply(SLS)
        assert applied.returncode == 0, applied.failed or applied.result
    _mail.background_done()
    _kept(_mail, "guarded")
    return _mail


@pytest.fixture
def guarded(_guarded: Host) -> Host:
    """A running host with fail2ban as declared."""
    return _started(_guarded, "guarded")


def pillar(host: Host) -> dict[str, object]:
    """Return a pillar with the hardening that takes the least time."""
    return {**Checkout.good_pillar(host), "hardening": QUICK}


@pytest.mark.thorough("what a quicker test shows in part")
@each(TAMPERS)
def test_tampered_host(guarded: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    guarded.run(["sh", "-euc", tamper.script])
    checkout.pillar(pillar(guarded))
    found = exact(tamper.id, guarded, checkout, SLS)
    assert found.made
    assert found.dry.marks[TASK] != "[x]"
    assert found.again.marks[TASK] == "[x]"
