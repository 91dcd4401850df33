"""Hosts, a checkout and the table of exactness for tests on real Debian 13 hosts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import labkit
from labkit import Host, Lab, exposure
from labkit.checkout import Checkout, Result
from labkit.exactness import HEADER, Exactness, measure, table

# The access tasks: what they need comes along.
ACCESS = ("access.ssh_proven", "access.cleaned_up")
HARDENING = "hardening.baseline"
# As the database's superuser, on the host; the query on standard input or as -c.
PSQL = "docker exec -i mailserver-postgres psql -XAtq -v ON_ERROR_STOP=1 -U postgres -h /var/run/postgresql"
# Prints the number of the database's process, and nothing when there is none: Docker says 0 then, which stands for the
# caller's own process group where it is killed (kill(2)).
SERVER = "docker inspect -f '{{.State.Pid}}' mailserver-postgres | grep -vx 0"
QUIET = Path(labkit.__file__).with_name("quiet-timers.sh")
# Lets tests that want a virtual machine have one. Not unasked: whether KVM works is found by trying, and what answers
# at /dev/kvm in a machine that is virtual itself may take that machine with it.
VIRTUAL = "MAILHOST_LAB_VIRTUAL"
# Under these names a test's report carries rows of tables, also from the other processes of pytest-xdist.
EXACTNESS, FRONT_DOOR, EXPOSURE = "exactness", "front door", "exposure"
Exact = Callable[..., Exactness]


@pytest.fixture(scope="session")
def mail_lab() -> Iterator[Lab]:
    """The lab of the tests that share one host."""
    with Lab(f"tests-{os.getpid()}") as made:
        yield made


@pytest.fixture(scope="session")
def _mail(mail_lab: Lab) -> Host:
    """The shared host, with its snapshot ``pristine``: booted once, for the first boot writes much."""
    host = mail_lab.host("mail")
    host.put(QUIET.read_text(), f"/etc/systemd/system-generators/{QUIET.stem}", 0o755)
    host.boot()
    _kept(host, "pristine")
    return host


@pytest.fixture(scope="session")
def _thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkouts share what Salt packs for hosts."""
    return tmp_path_factory.mktemp("thin") / "thin"


@pytest.fixture(scope="session")
def _entered(_mail: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``entered``: the access tasks applied to a pristine one."""
    _started(_mail, "pristine")
    with Checkout(tmp_path_factory.mktemp("enter") / "c", _mail, _thin) as checkout:
        run = checkout.apply(*ACCESS)
        assert run.returncode == 0, run.result
    _kept(_mail, "entered")
    return _mail


@pytest.fixture(scope="session")
def _hardened(_mail: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``hardened``: where most tasks begin, and half of what a whole run takes."""
    _started(_mail, "pristine")
    with Checkout(tmp_path_factory.mktemp("harden") / "c", _mail, _thin) as checkout:
        run = checkout.apply(HARDENING)
        assert run.returncode == 0, run.result
    _background_done(_mail)
    _kept(_mail, "hardened")
    return _mail


@pytest.fixture(scope="session")
def _converged(_hardened: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``converged``: all tasks applied to a hardened one."""
    host = _started(_hardened, "hardened")
    with Checkout(tmp_path_factory.mktemp("converge") / "c", host, _thin) as checkout:
        run = checkout.apply()
        assert run.returncode == 0, run.result
    _background_done(host)
    _kept(host, "converged")
    return host


@pytest.fixture
def fresh(_mail: Host) -> Host:
    """A running host as the provider delivers it."""
    return _started(_mail, "pristine")


@pytest.fixture
def entered(_entered: Host) -> Host:
    """A running host to which the access tasks have been applied, and nothing else."""
    return _started(_entered, "entered")


@pytest.fixture
def hardened(_hardened: Host) -> Host:
    """A running host to which the hardening has been applied and what it needs, and nothing else."""
    return _started(_hardened, "hardened")


@pytest.fixture
def converged(_converged: Host) -> Host:
    """A running host to which all tasks have been applied."""
    return _started(_converged, "converged")


@pytest.fixture
def checkout(_mail: Host, _thin: Path, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the tree whose roster names the shared host ``mail``, with a good pillar in every environment."""
    with Checkout(tmp_path / "c", _mail, _thin) as made:
        yield made


@pytest.fixture
def exact(request: pytest.FixtureRequest) -> Exact:
    """Measure a case, put it into the table at the end, and fail unless everything is as it must be."""

    def judged(case: str, host: Host, checkout: Checkout, *sls: str) -> Exactness:
        found = measure(case, host, checkout, *sls)
        request.node.user_properties.append((EXACTNESS, found.row()))
        assert not found.wrong(), "\n".join(found.wrong())
        return found

    return judged


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Callable[[str, Result], None]:
    """Put how a command ended into the table at the end."""

    def add(case: str, result: Result) -> None:
        lines = [line.strip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        said = [line for line in lines if not re.match(r"mail: (\w+, by|\d+/\d+) |mail: *$", line)] or [""]
        row = (case, str(result.returncode), f"{result.seconds:.1f}", said[0][:100].replace("|", "/"))
        request.node.user_properties.append((FRONT_DOOR, row))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    found = [pair for report in reports if report.when == "call" for pair in report.user_properties]
    tables = {
        EXACTNESS: ("dry run against apply, on real hosts", HEADER),
        EXPOSURE: ("what of a host is reached", exposure.HEADER),
        FRONT_DOOR: ("how salt-ssh ends", ("case", "exit code", "seconds", "what is said first")),
    }
    for name, (title, header) in tables.items():
        rows = [row for kind, row in found if kind == name]
        if rows:
            terminalreporter.section(title)
            terminalreporter.write_line(table(header, rows))


def _background_done(host: Host, timeout: float = 600) -> None:
    """Wait until what a run has left to go on by itself is done, such as AIDE's database."""
    until = time.monotonic() + timeout
    unit = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", "mailhost-*.service"]
    while left := host.run(unit).stdout:
        assert time.monotonic() < until, left
        time.sleep(1)


def _kept(host: Host, snapshot: str) -> None:
    """Keep what is on the host's disk now, and leave it switched off: plain copies need that."""
    host.power_cut()
    host.snapshot(snapshot)


def _started(host: Host, snapshot: str) -> Host:
    """Return the host, just booted from a snapshot."""
    host.power_cut()
    host.restore(snapshot)
    host.boot(port=None)
    return host
