"""Docker: exact from whatever was there before, and containers outlast its daemon."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout

from .conftest import Exact
from .tampering import Tamper, changes, each

pytestmark = pytest.mark.lab

ENGINE = "docker.engine"
FILE = "/etc/docker/daemon.json"
SCOPES = "/etc/systemd/system/docker-.scope.d/mailhost.conf"
# What Debian 13 has, and no registry: an image of one static program.
IMAGE = """
apt-get -q update >/dev/null
apt-get -qy --no-install-recommends install docker.io docker-cli busybox-static >/dev/null 2>&1
mkdir -p /srv/image
cp /bin/busybox /srv/image/
tar -C /srv/image -c . | docker import - box
"""
# A repository such as Docker's own, on the host: Debian's programs under the names that its packages have, and signed.
REPOSITORY = r"""
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/srv/key
apt-get -q update >/dev/null
apt-get -qy --no-install-recommends install apt-utils gnupg >/dev/null 2>&1
architecture=$(dpkg --print-architecture)
mkdir -p /srv/docker/pool /srv/docker/dists/trixie/stable/binary-$architecture
mkdir -pm 700 /srv/key
cd /srv/docker
repacked() {  # its name, what it is made of, what it needs of the others
    rm -rf /srv/root /srv/debs && mkdir -p /srv/root/DEBIAN /srv/debs && cd /srv/debs
    apt-get -qq download $2
    for deb in *.deb; do dpkg-deb -x $deb /srv/root; done
    [ $1 != docker-ce ] || dpkg-deb -e docker.io_*.deb /srv/root/DEBIAN
    needs=$(for deb in *.deb; do dpkg-deb -f $deb Depends; done | tr , '\n' | sed 's/^ *//' |
        grep -vE '^(containerd|runc|docker)' | paste -sd,)
    cat >/srv/root/DEBIAN/control <<END
Package: $1
Version: 5:99.0
Architecture: $architecture
Maintainer: a test <root@localhost>
Depends: $needs$3
Description: a test
END
    dpkg-deb -Znone -b /srv/root /srv/docker/pool/$1.deb >/dev/null
    cd /srv/docker
}
repacked containerd.io "containerd runc" ""
repacked docker-ce-cli docker-cli ""
repacked docker-compose-plugin docker-compose ",docker-ce-cli"
repacked docker-ce docker.io ",containerd.io,docker-ce-cli"
apt-ftparchive packages pool >dists/trixie/stable/binary-$architecture/Packages
parts="-o APT::FTPArchive::Release::Codename=trixie -o APT::FTPArchive::Release::Components=stable"
apt-ftparchive $parts release dists/trixie >/srv/Release
gpg --batch --quiet --passphrase '' --quick-generate-key docker@localhost ed25519 sign never
gpg --batch --quiet --clearsign -o dists/trixie/InRelease /srv/Release
gpg --armor --export
"""
BUSY = "docker run -d --name busy box /busybox sleep 100000"


# The last two settings of the file; json-file does not know the option.
SYSLOG = '"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.1:514"}}'
RESTART = ("Docker runs: restarted",)
SPOILT = f"""s/"live-restore": true/"dns": ["192.0.2.1"], "live-restore": false/; s|"log-driver".*|{SYSLOG}|"""
CONFIGURED = "Docker is configured: "
DROP_IN = "Docker: containers are stopped at a shutdown: file"
TAMPERS = [
    Tamper("file and compose removed", f"rm {FILE}; apt-get -qqy purge docker-compose", (
        *(CONFIGURED + name for name in (
            "live-restore", "userland-proxy", "no-new-privileges", "icc", "ip", "default-network-opts", "log-driver",
            "log-opts",
        )), "Docker is installed: docker-compose", *RESTART)),
    Tamper("file edited, with foreign keys, and admin in group docker",
           f"sed -zi '{SPOILT}' {FILE}; systemctl restart docker; gpasswd -a phalkonadmin docker",
           (CONFIGURED + "live-restore", CONFIGURED + "log-driver", CONFIGURED + "log-opts",
            "group docker: phalkonadmin", *RESTART)),
    Tamper("drop-in removed", f"rm {SCOPES}", (DROP_IN, *RESTART)),
    Tamper("stopped and off", "systemctl disable --now docker.socket docker",
           ("Docker runs: enabled", "Docker runs: active")),
]  # fmt: skip


@pytest.mark.shown_by("file-edited,-with-foreign-keys,-and-admin-in-group-docker")
@each(TAMPERS)
def test_tampered_host(entered: Host, checkout: Checkout, exact: Exact, tamper: Tamper) -> None:
    entered.run(["sh", "-euc", tamper.script])
    found = exact(f"docker: {tamper.id}", entered, checkout, ENGINE)
    assert changes(found.real) == set(tamper.expected)
    assert found.again.marks["1.2.6"] == "[x]"
    if "dns" in tamper.script:
        assert '"192.0.2.1"' in entered.read(FILE)


@pytest.mark.thorough("rare, and takes minutes")
def test_an_own_docker_is_taken_over_without_stopping_its_containers(
    fresh: Host, checkout: Checkout, exact: Exact
) -> None:
    """Also by a restart of the daemon, which on that host would have stopped them before."""
    fresh.run(["sh", "-euc", IMAGE + BUSY])
    fresh.put('{"log-opts": {"tag": "x"}}', FILE)
    before = _container(fresh)
    found = exact("docker: one's own", fresh, checkout, ENGINE)
    assert _container(fresh) == before
    assert found.again.marks["1.2.6"] == "[~]", "its bridge is made anew once nothing runs on it"
    assert '"tag": "x"' in fresh.read(FILE)
    fresh.run(["sh", "-euc", "docker stop -t0 busy; systemctl restart docker"])
    assert checkout.tracker()["1.2.6"][0] == "[x]"


@pytest.mark.thorough("rare, and takes minutes")
def test_docker_comes_from_a_repository_of_its_own(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    key = fresh.run(["bash", "-euc", REPOSITORY]).stdout
    docker = {"repository": "file:/srv/docker", "repository_key": key}
    checkout.pillar({**checkout.good_pillar(fresh), "docker": docker})
    found = exact("docker: its own repository", fresh, checkout, ENGINE)
    assert found.real.changed["Docker is installed"]["docker-ce"] == {"old": "", "new": "5:99.0"}
    assert found.again.marks["1.2.6"] == "[x]"
    checkout.pillar(checkout.good_pillar(fresh))
    for test in (True, False):
        refused = checkout.apply(ENGINE, test=test).failed["Docker: where it comes from"]
        assert refused.startswith("docker.repository: asks for docker.io, and docker-ce is installed")


def test_containers_outlast_the_daemon(entered: Host) -> None:
    entered.run(["sh", "-euc", IMAGE + BUSY])
    before = _container(entered)
    entered.run(["systemctl", "restart", "docker"])
    assert _container(entered) == before
    entered.run(["systemctl", "kill", "-s", "KILL", "docker"])
    entered.run(["sh", "-euc", "sleep 3; timeout 30 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done'"])
    assert _container(entered) == before


def test_a_reboot_does_not_wait_for_a_container_that_does_not_end(entered: Host) -> None:
    """The first process of a container ignores SIGTERM unless it was written to be one."""
    entered.run(["sh", "-euc", IMAGE + BUSY.replace("-d", "-d --restart unless-stopped")])
    entered.reboot(timeout=60, port=None)
    assert _container(entered).startswith("true ")


def test_ports_are_published_on_loopback_by_default(entered: Host) -> None:
    entered.run(["sh", "-euc", IMAGE])
    run = "docker run -d -p 80"
    entered.run(["sh", "-euc", f"docker network create own; {run} box /busybox sleep 99"])
    entered.run(["sh", "-euc", f"{run} --network own box /busybox sleep 99"])
    published = entered.run(["docker", "ps", "--format", "{{.Ports}}"]).stdout.split()
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published), published


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{ 'x': 1 }", "/etc/docker/daemon.json: is no JSON"),
        ('{"no-such-setting": 1}', "/etc/docker/daemon.json: not replaced:"),
        ('{"hosts": ["unix:///run/other.sock"]}', "/etc/docker/daemon.json: not replaced:"),
    ],
)
def test_a_file_that_docker_would_not_start_with_is_refused(
    entered: Host, checkout: Checkout, text: str, words: str
) -> None:
    entered.put(text, FILE)
    for test in (True, False):
        run = checkout.apply(ENGINE, test=test)
        assert words in run.failed["Docker is configured"]
    assert entered.read(FILE) == text
    assert entered.run(["systemctl", "is-active", "docker"]).stdout == "active\n"


@pytest.mark.thorough("rare, and takes minutes")
def test_the_admin_is_in_group_docker_on_request(entered: Host, checkout: Checkout, exact: Exact) -> None:
    checkout.pillar({**checkout.good_pillar(entered), "docker": {"admin_in_group": True}})
    found = exact("docker: admin in the group", entered, checkout, ENGINE)
    assert set(found.real.changed) == {"group docker"}
    assert found.again.marks["1.2.6"] == "[x]"


def _container(host: Host) -> str:
    """Return what is only the same while a container has not been started again."""
    return host.run(
        ["docker", "inspect", "-f", "{{.State.Running}} {{.State.StartedAt}} {{.State.Pid}}", "busy"]
    ).stdout
