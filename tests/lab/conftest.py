"""Hosts, a checkout and the table of exactness for tests on real Debian 13 hosts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import labkit
from labkit import Host, Lab
from labkit.checkout import Checkout, Result
from labkit.exactness import Exactness, measure
from labkit.tables import EXACTNESS, FRONT_DOOR
from labkit.tools import locked

# The access tasks: what they need comes along.
ACCESS = ("access.ssh_proven", "access.cleaned_up")
HARDENING = "hardening.baseline"
# As the database's superuser, on the host; the query on standard input or as -c.
PSQL = "docker exec -i mailserver-postgres psql -XAtq -v ON_ERROR_STOP=1 -U postgres -h /var/run/postgresql"
# Prints the number of the database's process, and nothing when there is none: Docker says 0 then, which stands for the
# caller's own process group where it is killed (kill(2)).
SERVER = "docker inspect -f '{{.State.Pid}}' mailserver-postgres | grep -vx 0"
QUIET = Path(labkit.__file__).with_name("quiet-timers.sh")
Exact = Callable[..., Exactness]


@pytest.fixture(scope="session")
def _run(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all processes of pytest-xdist have in one run."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def mail_lab(_run: Path) -> Iterator[Lab]:
    """The lab of the tests that share one host; the labs of one run have one key, for they share snapshots."""
    with Lab(f"tests-{os.getpid()}") as made:
        with locked(_run / "key.lock"):
            for path in (made.key, made.key.with_suffix(".pub")):
                shared = _run / path.name
                shutil.copy(*((shared, path) if shared.exists() else (path, shared)))
        yield made


@pytest.fixture(scope="session")
def _mail(mail_lab: Lab, _run: Path) -> Host:
    """The shared host, with its snapshot ``pristine``: booted once, for the first boot writes much."""
    host = mail_lab.host("mail")

    def make() -> None:
        host.put(QUIET.read_text(), f"/etc/systemd/system-generators/{QUIET.stem}", 0o755)
        host.boot()

    _shared(host, "pristine", _run, make)
    host.restore("pristine")
    return mail_lab.host("mail")  # notes the key that the host has now


@pytest.fixture(scope="session")
def _thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkouts share what Salt packs for hosts."""
    return tmp_path_factory.mktemp("thin") / "thin"


@pytest.fixture(scope="session")
def _entered(_mail: Host, _thin: Path, _run: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``entered``: the access tasks applied to a pristine one."""

    def make() -> None:
        _started(_mail, "pristine")
        with Checkout(tmp_path_factory.mktemp("enter") / "c", _mail, _thin) as checkout:
            run = checkout.apply(*ACCESS)
            assert run.returncode == 0, run.result

    _shared(_mail, "entered", _run, make)
    return _mail


@pytest.fixture(scope="session")
def _hardened(_mail: Host, _thin: Path, _run: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The shared host, with its snapshot ``hardened``: where most tasks begin, and half of what a whole run takes."""

    def make() -> None:
        _started(_mail, "pristine")
        with Checkout(tmp_path_factory.mktemp("harden") / "c", _mail, _thin) as checkout:
            run = checkout.apply(HARDENING)
            assert run.returncode == 0, run.result
        _mail.background_done()

    _shared(_mail, "hardened", _run, make)
    return _mail


@pytest.fixture(scope="session")
def _converged(_mail: Host, _thin: Path, _run: Path, request: pytest.FixtureRequest) -> Host:
    """The shared host, with its snapshot ``converged``: all tasks applied to a hardened one."""

    def finish() -> None:
        directory = request.getfixturevalue("tmp_path_factory").mktemp("converge")
        with Checkout(directory / "c", _mail, _thin) as checkout:
            run = checkout.apply()
            assert run.returncode == 0, run.result
        _mail.background_done()

    def make() -> None:
        _started(request.getfixturevalue("_hardened"), "hardened")
        finish()

    if not _shared(_mail, "converged", _run, make):
        # The firewall's rules have the address of the host that it was made on.
        _started(_mail, "converged")
        finish()
        _kept(_mail, "converged")
    return _mail


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


def own_resolvers(host: Host) -> list[str]:
    """Return the resolvers that the host got with its file tree."""
    snapshot = host.root.with_name(f"{host.machine}@pristine")
    lines = (snapshot / "etc/resolv.conf").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver")]


def _shared(host: Host, snapshot: str, run: Path, make: Callable[[], None]) -> bool:
    """Let a host have a snapshot that the first of a run's processes makes, while the others wait for it.

    Params: host; snapshot, its name; run, the directory of the run; make, what brings the host to that state.
    Returns whether it was made here.
    """
    with locked(run / f"{snapshot}.lock"):
        note = run / f"{snapshot}.host"
        if note.exists() and host.take(note.read_text(), snapshot):
            return False
        make()
        _kept(host, snapshot)
        note.write_text(host.machine)
        return True


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
