"""PostgreSQL in its container: what is refused, what differs, what a running one does not do."""

import datetime
import ipaddress
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from salt.exceptions import CommandExecutionError

import compiled
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
    return compiled.loaded(f"_{kind}/mailhost_postgres.py", **dunders)  # type: ignore[no-any-return]


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
    ("change", "changes"),
    [
        ({}, {}),
        ({"days_left": 1823.0}, {"certificate": "ends within 1825 days"}),
        # Of a tree that made them for 825 days.
        ({"days_left": 800.0, "ca_days_left": 3625.0}, {"certificate": "ends within 1825 days"}),
        ({"ca_days_left": 1824.0}, {"ca": "ends within 1825 days", "certificate": "of another authority"}),
        ({"names": NAMES[:1]}, {"certificate": "for IP:10.100.0.25"}),
        (
            {"why": "certificate and key: key values mismatch"},
            {"certificate": "certificate and key: key values mismatch"},
        ),
        ({"server": False, "names": [], "days_left": None}, {"certificate": None}),
        ({"ca": False, "ca_days_left": None}, {"ca": None, "certificate": "of another authority"}),
        ({"own": False}, {"certificate": "of another authority"}),
        (
            {"ca": False, "ca_days_left": None, "server": False, "names": [], "days_left": None},
            {"ca": None, "certificate": None},
        ),
    ],
)
def test_when_a_certificate_is_made(change: dict[str, Any], changes: dict[str, Any]) -> None:
    there = {"ca": True, "ca_days_left": 1825.5, "own": True, "server": True, "why": "", "names": NAMES}
    found = mailhost_postgres.plan_own_certificate({**there, "days_left": 1824.9, **change}, NAMES)
    assert {name: row["old"] for name, row in found.items()} == changes


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """PostgreSQL's module with openssl, and a directory of its own for certificates."""
    monkeypatch.setattr(mailhost_postgres, "CA", str(tmp_path))
    monkeypatch.setattr(mailhost_postgres, "TLS", str(tmp_path / "tls"))
    (tmp_path / "tls").mkdir()

    def program(argv: list[str], stdin: str | None = None) -> str:
        return subprocess.run(argv, input=stdin, check=True, capture_output=True, text=True).stdout

    def look(path: str) -> dict[str, Any]:
        return {"text": Path(path).read_text(encoding="utf-8")} if Path(path).exists() else {}

    def replace(path: str, text: str, *_: str) -> None:
        Path(path).write_text(text, encoding="utf-8")

    salt = {"mailhost_run.program": program, "mailhost_file.look": look, "mailhost_file.replace": replace}
    return loaded("modules", __salt__=salt)


def test_own_certificates_last_and_what_does_not_hold_is_made_anew(maker: ModuleType, tmp_path: Path) -> None:
    tls = tmp_path / "tls"

    def plan() -> dict[str, Any]:
        return mailhost_postgres.plan_own_certificate(maker.certificates(), NAMES)

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8")

    assert set(plan()) == {"ca", "certificate"}
    maker.make_certificate(NAMES, 999, True)
    assert plan() == {}
    found = maker.certificates()
    assert found["ca_days_left"] - 1.1 <= found["days_left"] <= found["ca_days_left"]

    # Cut between the new key and its certificate; then one that nobody can read.
    key = read(tmp_path / "ca.key")
    (tls / "server.key").write_text(key, encoding="utf-8")
    assert plan()["certificate"]["old"] == "certificate and key: key values mismatch"
    (tls / "server.crt").write_text("?", encoding="utf-8")
    assert plan()["certificate"]["old"] == "certificate and key: cannot be read"
    maker.make_certificate(NAMES, 999, False)
    assert plan() == {}

    # The authority too is a pair, or made anew.
    before = read(tls / "ca.crt")
    (tmp_path / "ca.key").write_text(read(tls / "server.key"), encoding="utf-8")
    assert set(plan()) == {"ca", "certificate"}
    (tmp_path / "ca.key").write_text(key, encoding="utf-8")

    # Renewed, it is one that clients which know the old one still take.
    maker.make_certificate(NAMES, 999, True)
    assert plan() == {}
    assert read(tls / "ca.crt") != before
    new = read(tls / "server.crt"), read(tls / "server.key")
    assert maker.refusal(before, *new, ["10.100.0.25", "fd00:100::25"]) == ""


def issued(days: int, name: str, by: str = "x") -> tuple[str, str, str]:
    """Return an authority, a certificate of its that ended or ends in some days, and its key."""
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("authority", "server")}
    now = datetime.datetime.now(datetime.UTC)

    def certificate(who: str, subject: str, extension: x509.ExtensionType) -> str:
        title = {text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, by)}
        made = x509.CertificateBuilder(title[by], title[subject], keys[who].public_key(), 1)
        ends = now + datetime.timedelta(days=days if who == "server" else 9)
        made = made.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(ends)
        done = made.add_extension(extension, critical=True).sign(keys["authority"], hashes.SHA256())
        return done.public_bytes(serialization.Encoding.PEM).decode()

    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = keys["server"].private_bytes(pem, form, serialization.NoEncryption()).decode()
    authority = certificate("authority", by, x509.BasicConstraints(ca=True, path_length=None))
    return authority, certificate("server", "server", names), key


SOUND, OTHER = issued(9, "10.100.0.25"), issued(9, "10.100.0.25", by="y")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (SOUND, ""),
        (issued(-1, "10.100.0.25"), "certificate: certificate has expired"),
        (issued(9, "10.100.0.26"), "certificate: IP address mismatch, certificate is not valid for '10.100.0.25'"),
        ((OTHER[0], *SOUND[1:]), "certificate: unable to get local issuer certificate"),
        ((*SOUND[:2], OTHER[2]), "certificate and key: key values mismatch"),
        (("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", *SOUND[1:]), "ca: "),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_a_given_certificate_that_clients_would_refuse_does_not_go_live(
    maker: ModuleType, tmp_path: Path, given: tuple[str, str, str], words: str, test: bool
) -> None:
    salt = {
        "mailhost_postgres.refusal": maker.refusal,
        "mailhost_postgres.give_certificate": maker.give_certificate,
        "mailhost_file.look": lambda path, text=True: maker.__dict__["__salt__"]["mailhost_file.look"](path),
    }
    state = loaded("states", __salt__=salt, __opts__={"test": test}, __context__={})
    declared = dict(zip(("ca", "certificate", "key"), given, strict=True))
    found = state.certificate("x", NAMES, 999, declared)
    there = {path.name for path in (tmp_path / "tls").iterdir()}
    if words:
        assert found["result"] is False
        assert found["comment"].startswith(f"postgres.tls: {words}")
    else:
        assert set(found["changes"]) == {"ca", "certificate", "key"}
    assert there == (set() if words or test else {"ca.crt", "server.crt", "server.key"})


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
        (place / "last-good").chmod(0o700)
        place.chmod(0o755)
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
    # Others go through it to the authority's certificate.
    assert tmp_path.stat().st_mode & 0o777 == 0o755


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
