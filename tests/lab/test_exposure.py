"""What of a finished host is reached, from the internet and by the VPN: just what is declared, of containers too.

All ports are tried, over TCP and UDP, IPv4 and IPv6. A container is published on purpose on every address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit import Host, Lab, Namespace, containers, exposure
from labkit.checkout import Checkout
from labkit.exposure import Exposure
from labkit.tables import EXPOSURE
from labkit.vpn import Peer

from .conftest import _kept, _started

pytestmark = pytest.mark.lab

WEB = "web"  # the container
HERE, HERE6 = "10.100.0.25", "fd00:100::25"
# Port 25 is declared public and 5432 for the VPN; the others nobody has declared.
PUBLISHED = (
    *(published for port in (25, 5432, 8080) for published in containers.everywhere(port)),
    *(f"{HERE}:8083:80", "127.0.0.1:8084:80", "0.0.0.0:8053:53/udp", "[::]:8053:53/udp"),
)
UNDECLARED = (8080, 8083, 8084)


@dataclass(frozen=True)
class Scene:
    """A host with a published container, somebody outside who can route to all its networks, and a peer of the VPN."""

    host: Host
    checkout: Checkout
    outside: Namespace
    peer: Peer
    pillar: Mapping[str, Any]
    container: tuple[str, str]

    @property
    def public(self) -> tuple[str, str]:
        """The host's public addresses."""
        return self.host.ipv4, self.host.ipv6

    @property
    def inner(self) -> tuple[str, ...]:
        """Addresses that a neighbour on the provider's network may route to the host, and must not reach."""
        return HERE, HERE6, *self.container

    def ssh_ports(self) -> set[int]:
        """Return the ports that sshd has on the public side."""
        lines = self.host.run(["ss", "-Hltnp"]).stdout.splitlines()
        local = [line.split()[3].rpartition(":") for line in lines if '"sshd"' in line]
        return {int(port) for address, _, port in local if address not in (HERE, f"[{HERE6}]")}

    def declared(self, *, vpn: bool) -> dict[str, frozenset[int]]:
        """Return what may be reached by protocol."""
        return exposure.declared(self.pillar, vpn=vpn, ssh=self.ssh_ports())


@pytest.fixture(scope="module")
def scene(
    mail_lab: Lab, _hardened: Host, _thin: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Scene]]:
    """Return how to get the scene as it was made: the host booted anew, the peer connected."""
    import mailhost_pillar

    outside, peer = mail_lab.namespace("outside"), Peer(mail_lab, "laptop", ("10.100.0.2", "fd00:100::2"))
    host = _started(_hardened, "hardened")
    with Checkout(tmp_path_factory.mktemp("exposure") / "c", host, _thin) as checkout:
        vpn = {"address6": f"{HERE6}/64", "peers": peer.pillar()}
        pillar = {**Checkout.good_pillar(host), "vpn": vpn}
        checkout.pillar(pillar)
        applied = checkout.apply("firewall.rules")
        assert applied.returncode == 0, applied.failed or applied.result
        configuration = checkout.salt("mail", "mailhost_vpn.peer_config", "laptop")
        assert configuration.returncode == 0, configuration
        containers.prepare(host)
        own = containers.publish(host, WEB, PUBLISHED)
        # The container came after the firewall, which has nothing to do about it.
        again = checkout.apply("firewall.rules")
        assert (again.returncode, again.changed) == (0, {}), again.result
        host.background_done()
        _kept(host, "exposed")
        made = Scene(host, checkout, outside, peer, mailhost_pillar.plain(mailhost_pillar.parse(pillar)), own)

        def started() -> Scene:
            _started(host, "exposed")
            for network in (f"{HERE}/32", f"{HERE6}/128", *containers.BRIDGES):
                family, way = ("-6", host.ipv6) if ":" in network else ("-4", host.ipv4)
                outside.run(["ip", family, "route", "replace", network, "via", way])
            peer.connect(configuration.stdout)
            return made

        yield started
        peer.disconnect()


@pytest.fixture(scope="module")
def standing(scene: Callable[[], Scene]) -> Scene:
    """The scene, left as it is by those who look at it."""
    return scene()


def judge(request: pytest.FixtureRequest, scans: list[Exposure]) -> None:
    """Put scans into the table at the end, and fail unless each is exact."""
    for one in scans:
        request.node.user_properties.append((EXPOSURE, one.row()))
    wrong = [str(one) for one in scans if not one.exact]
    assert not wrong, "\n".join(wrong)


def test_tcp_from_outside(standing: Scene, request: pytest.FixtureRequest) -> None:
    reached = exposure.tcp(standing.outside, standing.host, [*standing.public, *standing.inner])
    may = standing.declared(vpn=False)["tcp"]
    scans = [Exposure("outside", at, "tcp", frozenset(reached[at]), may) for at in standing.public]
    scans += [Exposure("neighbour", at, "tcp", frozenset(reached[at]), frozenset()) for at in standing.inner]
    judge(request, scans)


def test_udp_from_outside(standing: Scene, request: pytest.FixtureRequest) -> None:
    reached = exposure.udp(standing.outside, standing.host, [*standing.public, *standing.inner], WEB)
    may = standing.declared(vpn=False)["udp"]
    scans = [Exposure("outside", at, "udp", frozenset(reached[at]), may) for at in standing.public]
    scans += [Exposure("neighbour", at, "udp", frozenset(reached[at]), frozenset()) for at in standing.inner]
    judge(request, scans)


def test_tcp_and_udp_by_the_vpn(standing: Scene, request: pytest.FixtureRequest) -> None:
    own = (HERE, HERE6)
    reached = {
        "tcp": exposure.tcp(standing.peer.namespace, standing.host, own),
        "udp": exposure.udp(standing.peer.namespace, standing.host, own, WEB),
    }
    may = standing.declared(vpn=True)
    judge(
        request,
        [Exposure("VPN", at, name, frozenset(reached[name][at]), may[name]) for name in reached for at in own],
    )


def test_a_declared_port_of_a_container_answers(standing: Scene) -> None:
    for address in standing.public:
        assert answers(standing.outside, address, 25)
    for address in (HERE, HERE6):
        assert answers(standing.peer.namespace, address, 5432)


def answers(namespace: Namespace, address: str, port: int) -> bool:
    """Return whether the container's web server answers."""
    host = f"[{address}]" if ":" in address else address
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "3", f"http://{host}:{port}/"]
    return namespace.run(argv, check=False).stdout == "404"


def found(scene: Scene) -> list[tuple[str, int]]:
    """Return where somebody outside finds the container, of all places where it must not be found."""
    places = [(address, port) for address in (*scene.public, HERE, HERE6, "172.17.0.1") for port in UNDECLARED]
    places += [(address, 80) for address in scene.container]
    with ThreadPoolExecutor(len(places)) as pool:
        answered = list(pool.map(lambda place: answers(scene.outside, *place), places))
    return [place for place, answer in zip(places, answered, strict=True) if answer]


def test_the_scan_would_find_it(scene: Callable[[], Scene]) -> None:
    """Without the chains the container and the VPN's address are found: what the other tests prove is not chance."""
    open_ = scene()
    open_.host.run(["sh", "-euc", "for t in iptables ip6tables; do $t -F DOCKER-USER; $t -F mailhost-vpn; done"])
    places = found(open_)
    assert {(address, 8080) for address in open_.public} <= set(places)
    assert (HERE, 8083) in places
    reached = exposure.tcp(open_.outside, open_.host, [HERE])
    assert open_.declared(vpn=False)["tcp"] - {25} <= reached[HERE]
    assert 53 in exposure.udp(open_.outside, open_.host, [open_.host.ipv4], WEB)[open_.container[0]]
    open_.host.run(["ufw", "reload"])
    assert found(open_) == []


def guards(host: Host) -> list[str]:
    """Return the kernel's rules that keep containers and the VPN's address, without Docker's own after them."""
    chains = ("DOCKER-USER", "mailhost-vpn", "ufw-before-input", "ufw6-before-input")
    saved = [host.run([tool, "-t", "filter"]).stdout for tool in ("iptables-save", "ip6tables-save")]
    rules = [line for text in saved for line in text.splitlines() if line.startswith("-A")]
    return [rule for rule in rules if rule.split()[1] in chains and rule != "-A DOCKER-USER -j RETURN"]


@pytest.mark.shown_by("systemctl restart docker", "reboot")
@pytest.mark.parametrize("event", ["ufw reload", "systemctl restart docker", "systemctl restart ufw", "reboot"])
def test_containers_stay_unreachable(scene: Callable[[], Scene], event: str) -> None:
    after = scene()
    before = guards(after.host)
    assert sum(line.startswith("-A DOCKER-USER") for line in before) > 2
    if event == "reboot":
        after.host.reboot(port=None)
    else:
        after.host.run(["sh", "-euc", event])
    assert found(after) == []
    assert answers(after.outside, after.host.ipv4, 25)
    assert guards(after.host) == before
    mark, evidence = after.checkout.tracker()["1.5.1"]
    assert mark == "[~]"
    assert evidence == "SSH comes in from everywhere while sshd listens on port 2288 there"
