"""PostgreSQL in its container: what is refused, what differs, what a running one does not do."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_pillar
import mailhost_postgres
from compiled import GOOD, ROOT

PILLAR = mailhost_pillar.plain(
    mailhost_pillar.parse({**GOOD, "vpn": {"address6": "fd00:100::25/64"}, "network": {"fqdn": "mail.example.org"}})
)
IMAGE = "postgres:17-trixie"
EMPTY = {"data": {"kind": "empty"}, "new": None, "marker": None}


def loaded(kind: str, **dunders: Any) -> ModuleType:
    """Return PostgreSQL's module or state with Salt's names in it."""
    spec = importlib.util.spec_from_file_location(f"postgres_{kind}", ROOT / f"_{kind}/mailhost_postgres.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(dunders)
    return module


def cluster(major: str = "17", identifier: str = "1", marker: str | None = "1") -> dict[str, Any]:
    return {"data": {"kind": "cluster", "major": major, "id": identifier}, "new": None, "marker": marker}


@pytest.mark.parametrize(
    ("found", "major", "words"),
    [
        (EMPTY, "17", ""),
        ({**EMPTY, "marker": "1", "new": "1"}, "17", ""),
        ({**EMPTY, "marker": "1"}, "17", "is empty, and this host made cluster 1: is its disk mounted"),
        ({**EMPTY, "marker": "1", "new": "2"}, "17", "is empty, and this host made cluster 1"),
        ({**EMPTY, "data": {"kind": "mount"}}, "17", "is a mount point"),
        ({**EMPTY, "data": {"kind": "foreign", "first": "lost+found"}}, "17", "has lost+found and is no cluster"),
        (cluster(), "17", ""),
        (cluster(), None, ""),
        (cluster("16"), "17", "is of PostgreSQL 16, and postgres.image (postgres:17-trixie) is 17: a step to another"),
        (cluster(marker=None), "17", "is cluster 1, and this host did not make it"),
        (cluster(marker="2"), "17", "is cluster 1, and this host made 2"),
    ],
)
def test_what_lies_in_the_data_directory(found: Any, major: str | None, words: str) -> None:
    said = mailhost_postgres.refuse_cluster(found, major, IMAGE)
    assert (words in said if words else False) if said else not words
    assert said is None or said.startswith("/opt/postgres/data: ")


@pytest.mark.parametrize(
    ("image", "major"),
    [
        (IMAGE, "17"),
        ("postgres:18", "18"),
        ("registry.example.org:5000/postgres:17.11-trixie@sha256:" + "0" * 64, "17"),
        ("postgres:trixie", None),
        ("postgres:latest", None),
    ],
)
def test_the_major_version_of_a_name(image: str, major: str | None) -> None:
    assert mailhost_postgres.major_of_name(image) == major


def test_what_an_image_says() -> None:
    said: dict[str, Any] = {
        "Id": "sha256:1",
        "RepoDigests": None,
        "Config": {"Env": ["PG_MAJOR=17", "PG_VERSION=17.7-3.pgdg13+1"]},
    }
    found = mailhost_postgres.parse_image(said)
    assert found == {"id": "sha256:1", "major": "17", "version": "17.7-3.pgdg13+1", "digests": [], "base": None}
    said["Config"]["Labels"] = {"mailhost.base": "sha256:0"}
    assert (mailhost_postgres.parse_image(said) or {})["base"] == "sha256:0"
    assert mailhost_postgres.parse_image(None) is None
    mailhost_postgres.require_major("15", "postgres:15-bookworm")
    with pytest.raises(CommandExecutionError, match="it is no image of PostgreSQL"):
        mailhost_postgres.require_major(None, "busybox:1")
    with pytest.raises(CommandExecutionError, match="is PostgreSQL 14, and the oldest that is taken is 15"):
        mailhost_postgres.require_major("14", "registry.example.org/database:bookworm")


def test_the_image_that_runs_is_named_by_all_it_is_made_of() -> None:
    name = mailhost_postgres.own_image(IMAGE)
    assert name.startswith("mailserver-postgres:17-trixie-")
    digest = "registry.example.org:5000/postgres:17-trixie@sha256:" + "0" * 64
    assert mailhost_postgres.own_image(digest).startswith("mailserver-postgres:17-trixie-")
    assert mailhost_postgres.own_image(digest) != name


def test_the_proxies_of_apt() -> None:
    said = "http_proxy='http://ada:se cret@proxy.example.org:3128'\nhttps_proxy='DIRECT'\n"
    assert mailhost_postgres.parse_proxies(said) == {"http_proxy": "http://ada:se cret@proxy.example.org:3128"}
    assert mailhost_postgres.parse_proxies("") == {}


ON = {"enabled": "enabled", "active": "active"}
CONTAINER: dict[str, Any] = {"status": "running", "health": "healthy", "image": "sha256:1", "memory": 0}


@pytest.mark.parametrize(
    ("unit", "container", "image", "newer", "reload", "changes"),
    [
        (ON, CONTAINER, "sha256:1", [], False, set()),
        (ON, CONTAINER, None, [], False, set()),
        (ON, None, "sha256:1", ["/f"], True, {"container"}),
        (ON, {**CONTAINER, "health": "unhealthy"}, "sha256:1", [], False, {"container"}),
        (ON, {**CONTAINER, "status": "exited"}, "sha256:1", [], False, {"container"}),
        ({**ON, "active": "inactive"}, CONTAINER, "sha256:1", [], False, {"container"}),
        ({**ON, "enabled": "disabled"}, CONTAINER, "sha256:1", [], False, {"enabled"}),
        (ON, CONTAINER, "sha256:1", ["/f"], True, {"restarted"}),
        (ON, CONTAINER, "sha256:2", [], True, {"restarted"}),
        (ON, CONTAINER, "sha256:1", [], True, {"reloaded"}),
    ],
)
def test_what_lets_it_run(unit: Any, container: Any, image: Any, newer: Any, reload: bool, changes: set[str]) -> None:
    assert set(mailhost_postgres.plan_running(unit, container, image, newer, reload)) == changes


def test_a_container_without_a_health_check_is_not_healthy() -> None:
    said = {
        "State": {"Status": "running", "StartedAt": "2026-11-22T23:04:02.5Z", "Pid": 7},
        "Image": "sha256:1",
        "HostConfig": {"Memory": 0, "CpuQuota": 0},
    }
    found = mailhost_postgres.parse_container(said)
    assert found
    assert (found["status"], found["health"]) == ("running", "none")


# As openssl 3.5 prints it.
CERTIFICATE = """notAfter=2029-02-24 23:41:27Z
X509v3 Subject Alternative Name: 
    IP Address:10.100.0.25, IP Address:FD00:100:0:0:0:0:0:25, DNS:mail.example.org
"""  # noqa: W291
NAMES = ["IP:10.100.0.25", "IP:fd00:100::25", "DNS:mail.example.org"]


def test_a_certificate_is_read() -> None:
    found = mailhost_postgres.parse_certificate(CERTIFICATE)
    assert found["end"] == "2029-02-24 23:41:27"
    assert mailhost_postgres.names(PILLAR) == NAMES
    assert mailhost_postgres.same_names(found["names"], NAMES)
    assert not mailhost_postgres.same_names(found["names"], NAMES[:1])


@pytest.mark.parametrize(
    ("ca", "server", "names", "days_left", "changes"),
    [
        (True, True, NAMES, 100.0, set()),
        (True, True, NAMES, 59.0, {"certificate"}),
        (True, True, NAMES[:1], 100.0, {"certificate"}),
        (True, False, [], None, {"certificate"}),
        (False, True, NAMES, 100.0, {"ca", "certificate"}),
        (False, False, [], None, {"ca", "certificate"}),
    ],
)
def test_when_a_certificate_is_made(ca: bool, server: bool, names: Any, days_left: Any, changes: set[str]) -> None:
    found = {"ca": ca, "server": server, "own": True, "names": names}
    assert set(mailhost_postgres.plan_own_certificate(found, NAMES, days_left)) == changes


def test_a_given_certificate_that_is_taken_away_gives_way_to_an_own_one() -> None:
    found = {"ca": True, "server": True, "own": False, "names": NAMES}
    assert set(mailhost_postgres.plan_own_certificate(found, NAMES, 100.0)) == {"certificate"}


RULES = [
    "local all postgres peer",
    "hostssl mailserver postfix,dovecot,sogo,mailadmin 10.100.0.0 255.255.255.0 scram-sha-256",
    "hostssl mailserver postfix,dovecot,sogo,mailadmin fd00:100:: ffff:ffff:ffff:ffff:: scram-sha-256",
]
SERVER: dict[str, Any] = {
    "version": "17.12 (Debian 17.12-1)",
    "settings": mailhost_postgres.WANTED,
    "errors": None,
    "rules": RULES,
}
SOCKETS = "LISTEN 0 200 10.100.0.25:5432 0.0.0.0:*\nLISTEN 0 200 [fd00:100::25]:5432 [::]:*\n"


@pytest.mark.parametrize(
    ("server", "sockets", "there", "words"),
    [
        ({}, SOCKETS, cluster(), []),
        ({"settings": {**mailhost_postgres.WANTED, "ssl": "off"}}, SOCKETS, cluster(), ["ssl is off, not on"]),
        ({"errors": ["invalid"]}, SOCKETS, cluster(), ["pg_hba.conf: invalid"]),
        (
            {"rules": [*RULES, "host all all all  trust"]},
            SOCKETS,
            cluster(),
            ["pg_hba.conf lets in: host all all all  trust"],
        ),
        ({"rules": RULES[:2]}, SOCKETS, cluster(), [f"pg_hba.conf lacks: {RULES[2]}"]),
        (
            {},
            SOCKETS.replace("10.100.0.25", "0.0.0.0"),
            cluster(),
            ["listens on 0.0.0.0", "does not listen on 10.100.0.25"],
        ),
        ({}, SOCKETS, cluster(marker="2"), ["/opt/postgres/data is not the cluster that this host made"]),
    ],
)
def test_what_a_running_server_does_not_do(server: Any, sockets: str, there: Any, words: list[str]) -> None:
    assert mailhost_postgres.judge(PILLAR, {**SERVER, **server}, sockets, there) == words


def test_a_certificate_that_ends_soon_is_said() -> None:
    said, besides = mailhost_postgres.evidence(PILLAR, SERVER, CONTAINER, 100)
    assert "PostgreSQL 17.12 is healthy on 10.100.0.25, fd00:100::25" in said
    assert "without limits" in said
    assert not besides
    assert mailhost_postgres.evidence(PILLAR, SERVER, {**CONTAINER, "memory": 1}, 13)[1] == [
        "its certificate ends in 13 days"
    ]


def test_limits_are_written_as_docker_takes_them_without_controllers() -> None:
    context = mailhost_postgres.context(PILLAR, 999)
    assert (context["memory_mb"], context["cpu_quota"]) == (2048, 150000)
    assert context["addresses"] == ["10.100.0.25", "fd00:100::25"]


@pytest.mark.parametrize(
    ("image", "builtin", "alter_system"),
    [("postgres:15-bookworm", False, False), (IMAGE, True, True), ("postgres:trixie", True, True)],
)
def test_what_a_major_version_knows_only(image: str, builtin: bool, alter_system: bool) -> None:
    argv = mailhost_postgres.initdb(mailhost_postgres.major_of_name(image) or "18")
    assert ("--locale-provider=builtin" in argv) is builtin
    assert {"--locale=C", "--data-checksums", "--auth-host=reject"} <= set(argv)
    wanted = {**PILLAR, "postgres": {**PILLAR["postgres"], "image": image}}
    assert mailhost_postgres.context(wanted, 999)["alter_system"] is alter_system


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"image": "postgres"}, "postgres.image: 'postgres' is not an image with its tag"),
        ({"image": "postgres:17\nx"}, "postgres.image: "),
        (
            {"image": "postgres:14.20-bookworm"},
            "postgres.image: postgres:14.20-bookworm is PostgreSQL 14, and the oldest",
        ),
        ({"cpus": True}, "postgres.cpus: True is not a number of processors"),
        ({"tls": {"key": "x"}}, "postgres.tls.key: is not a text in PEM"),
        (
            {"tls": {"ca": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}},
            "postgres.tls: ca, certificate and key are given together",
        ),
    ],
)
def test_what_the_pillar_may_not_say(section: Any, words: str) -> None:
    with pytest.raises(mailhost_pillar.PillarErrors) as caught:
        mailhost_pillar.parse({**GOOD, "postgres": section})
    assert any(sentence.startswith(words) for sentence in caught.value.sentences), caught.value.sentences


@pytest.mark.parametrize(("base", "built", "runs"), [("sha256:0", {}, {}), ("sha256:1", {"image"}, {"restarted"})])
def test_an_image_that_a_dry_run_would_make_anew_restarts_the_container(base: str, built: Any, runs: Any) -> None:
    """``docker pull`` gave the declared name to a newer image than the one that ours was made of."""
    images = {IMAGE: {"id": base}, "own:1": {"id": "sha256:9", "base": "sha256:0"}}
    found = {"load": "loaded", **ON, "started": 1.0, "changed": 1.0}
    salt = {
        "mailhost_postgres.find_image": images.get,
        "mailhost_postgres.container": lambda: {**CONTAINER, "image": "sha256:9", "started": "2026-11-22T23:04:02.5Z"},
        "mailhost_service.look": lambda unit: found,
        "mailhost_service.changed": lambda paths: {},
    }
    module = loaded("states", __salt__=salt, __opts__={"test": True}, __context__={})
    assert set(module.built("x", "own:1", IMAGE)["changes"]) == set(built)
    assert set(module.running("y", "own:1")["changes"]) == set(runs)


class Docker:
    """Docker and systemd of a host: names of images, and a container that some images never get healthy in."""

    NAME = "mailserver-postgres:17-trixie-0"

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, runs: str | None) -> None:
        self.names, self.runs, self.broken = {self.NAME: "sha256:1"}, runs, {"sha256:2"}
        for path in (place / "conf", place / "last-good/conf"):
            path.mkdir(parents=True)
        for path in (place / "compose.yaml", place / "last-good/compose.yaml"):
            path.write_text(self.NAME, encoding="utf-8")
        paths = {"PROJECT": place, "COMPOSE": place / "compose.yaml", "CONF": place / "conf"}
        for name, path in {**paths, "GOOD": place / "last-good"}.items():
            monkeypatch.setattr(mailhost_postgres, name, str(path))
        self.module = loaded(
            "modules", __salt__={"mailhost_run.program": self.program, "mailhost_service.act": self.act}
        )
        vars(self.module).update(container=self.container, find_image=self.names.get)

    def container(self) -> dict[str, Any] | None:
        health = "unhealthy" if self.runs in self.broken else "healthy"
        return {**CONTAINER, "health": health, "image": self.runs} if self.runs else None

    def program(self, argv: list[str]) -> str:
        if argv[:2] == ["docker", "logs"]:
            return "it is broken"
        if argv[:2] == ["docker", "compose"]:
            assert argv[4:] == ["config", "--images"]
            return Path(argv[3]).read_text(encoding="utf-8") + "\n"
        _, _, image, name = argv
        self.names[name] = self.names.get(image, image)
        return ""

    def act(self, unit: str, *verbs: str) -> None:
        if verbs[-1] == "restart":
            self.runs = self.names[Path(mailhost_postgres.COMPOSE).read_text(encoding="utf-8")]
            if self.runs in self.broken:
                raise CommandExecutionError("not healthy")


@pytest.mark.parametrize("runs", ["sha256:1", None])
def test_an_image_that_took_the_name_of_the_healthy_one_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: str | None
) -> None:
    """``docker pull`` brought a broken minor version of the same tag; the container runs meanwhile, or is away."""
    host = Docker(tmp_path, monkeypatch, runs=None)
    host.module.restart()
    assert host.names[mailhost_postgres.KEPT] == "sha256:1"
    host.runs, host.names[host.NAME] = runs, "sha256:2"
    with pytest.raises(CommandExecutionError, match="it is broken; what ran before runs again"):
        host.module.restart()
    assert host.runs == host.names[host.NAME] == "sha256:1"


def test_a_host_that_kept_no_image_yet_keeps_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Docker(tmp_path, monkeypatch, runs="sha256:1")
    host.names[host.NAME] = "sha256:2"
    with pytest.raises(CommandExecutionError, match="what ran before runs again"):
        host.module.restart()
    assert host.runs == "sha256:1"


def test_what_is_refused_is_refused_before_a_name_goes_to_another_image() -> None:
    text = (ROOT / "salt/postgres/container.sls").read_text(encoding="utf-8")
    order = [text.index(f'"mailhost_{function}"') for function in ("backup.kept", "postgres.cluster", "postgres.built")]
    assert order == sorted(order)
    assert text.index('"mailhost_postgres.certificate"') < order[-1]
