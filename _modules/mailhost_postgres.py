"""Look at PostgreSQL's container, its cluster and its certificates, and act on them."""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import signal
import ssl
import tempfile
import time

from salt.exceptions import CommandExecutionError

import mailhost_postgres

__all__ = [
    "build",
    "certificates",
    "cluster",
    "container",
    "fetch",
    "find_image",
    "give_certificate",
    "make_certificate",
    "make_cluster",
    "refusal",
    "reload",
    "restart",
    "sql",
    "uid_in",
]

# Nothing of the host and no network is in reach of a program that only looks at an image or makes a cluster.
ALONE = ["docker", "run", "--rm", "--pull=never", "--network=none", "--cap-drop=ALL"]
ALONE += ["--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp", "--log-driver=none"]


def find_image(image):
    """Return an image that Docker has: id, major, version, digests; None when it is not there, or Docker is not.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.find_image postgres:17-trixie
    """
    if not os.path.exists("/run/docker.sock"):
        return None
    return mailhost_postgres.parse_image(__salt__["mailhost_docker.ask"](f"/images/{image}/json"))


def fetch(image, archive):
    """Bring an image here: from its registry, or from a file.

    archive
        A file made by ``docker save`` that has it, None for the registry.

    Raises CommandExecutionError with Docker's words, or when the file does not have it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.fetch postgres:17-trixie None
    """
    run = __salt__["mailhost_run.program"]
    if archive is None:
        run(["docker", "pull", "--quiet", image], timeout=1800)
        return
    if not os.path.exists(archive):
        raise CommandExecutionError(f"postgres.image_archive: {archive} is not there")
    run(["docker", "load", "--quiet", "--input", archive])
    if find_image(image) is None:
        raise CommandExecutionError(f"postgres.image_archive: {archive} does not have {image}")


def build(image, base, identifier):
    """Make the image that runs of the declared one: with pgBackRest, which apt brings where it is not in it already.

    image
        The name it gets.
    base, identifier
        The declared image's name, and the id that it has now.

    Raises CommandExecutionError with the words of Docker or apt.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.build mailserver-postgres:17-trixie postgres:17-trixie sha256:0123
    """
    run = __salt__["mailhost_run.program"]
    said = run(["apt-config", "shell", "http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"])
    proxies = mailhost_postgres.parse_proxies(said)
    argv = ["docker", "build", "--quiet", "--pull=false", "--network=host", f"--tag={image}"]
    argv += [f"--build-arg=base={base}", f"--label={mailhost_postgres.BASE_LABEL}={identifier}"]
    # Without a value: Docker takes it from its environment, for the build only. A proxy's password is nobody's to see.
    argv += [f"--build-arg={name}" for name in proxies]
    run([*argv, "-"], stdin=mailhost_postgres.DOCKERFILE, timeout=1800, env=proxies)


def uid_in(image):
    """Return the user id that PostgreSQL has in an image.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.uid_in postgres:17-trixie
    """
    return int(__salt__["mailhost_run.program"]([*ALONE, "--entrypoint=id", image, "-u", "postgres"]))


def container():
    """Return the container: status, health, start, process, image; None when it is not there, or Docker is not.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.container
    """
    if not os.path.exists("/run/docker.sock"):
        return None
    found = __salt__["mailhost_docker.ask"](f"/containers/{mailhost_postgres.CONTAINER}/json")
    return mailhost_postgres.parse_container(found)


def cluster():
    """Return what lies in the data directory, a cluster that is being made beside it, and which one this host made.

    data has kind (empty, mount, foreign, cluster), and a cluster's major and id.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.cluster
    """
    directory = pathlib.Path(mailhost_postgres.DATA)
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    data = {"kind": "foreign", "first": names[0]} if names else {"kind": "empty"}
    if "PG_VERSION" in names:
        major = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
        data = {"kind": "cluster", "major": major, "id": _identifier(directory)}
    elif os.path.ismount(directory):
        data = {"kind": "mount"}
    marker = pathlib.Path(mailhost_postgres.MARKER)
    return {
        "data": data,
        "new": _identifier(pathlib.Path(mailhost_postgres.NEW)),
        "marker": marker.read_text(encoding="utf-8").strip() if marker.exists() else None,
    }


def make_cluster(image, uid):
    """Make a cluster beside the empty data directory and put it there whole; one that was made before is put there.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.make_cluster postgres:17-trixie 999
    """
    new, found = mailhost_postgres.NEW, cluster()
    if not found["new"] or found["new"] != found["marker"]:
        if os.path.exists(new):
            shutil.rmtree(new)
        __salt__["mailhost_file.make_directory"](new, str(uid), "0", "0700")
        program, *words = mailhost_postgres.initdb(find_image(image)["major"])
        mounted = [f"--user={uid}:{uid}", f"--volume={new}:/new", f"--entrypoint={program}"]
        __salt__["mailhost_run.program"]([*ALONE, *mounted, image, *words, "/new"])
        # Before the cluster is in its place: a power cut in between leaves what the next run goes on with.
        made = _identifier(pathlib.Path(new))
        __salt__["mailhost_file.replace"](mailhost_postgres.MARKER, f"{made}\n")
    os.rename(new, mailhost_postgres.DATA)


def _identifier(directory):
    """Return the system identifier of the cluster in a directory, None without one.

    It is what pg_control begins with (src/include/catalog/pg_control.h), in the machine's byte order.
    """
    try:
        with open(directory / "global/pg_control", "rb") as control:
            return str(int.from_bytes(control.read(8), "little"))
    except FileNotFoundError:
        return None


def certificates():
    """Return what there is of certificates.

    ca, ca_days_left
        Whether key and certificate of our own authority are a pair, and when it ends.
    own
        Whether that is what clients are given: one from the pillar may stand in its place.
    server, why, names, days_left
        Whether the server's key and certificate are both there, why clients would refuse them, what the certificate is
        for, and when it ends.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.certificates
    """
    paths = [f"{mailhost_postgres.CA}/{name}" for name in ("ca.crt", "ca.key")]
    paths += [f"{mailhost_postgres.TLS}/{name}" for name in ("ca.crt", "server.crt", "server.key")]
    authority, authority_key, given, certificate, key = (
        __salt__["mailhost_file.look"](path).get("text") for path in paths
    )
    found = {"ca": bool(authority and authority_key) and not _mismatch(authority, authority_key)}
    found["ca_days_left"] = _read(authority)["days_left"] if found["ca"] else None
    found["own"], found["server"] = given == authority, bool(certificate and key)
    found.update(why="", names=[], days_left=None)
    if found["server"]:
        found["why"] = _mismatch(certificate, key)
        # What is damaged cannot be read.
        if not found["why"]:
            found.update(_read(certificate))
            addresses = [name.removeprefix("IP:") for name in found["names"] if name.startswith("IP:")]
            found["why"] = refusal(given or "", certificate, key, addresses)
    return found


def _read(certificate):
    """Return the names that a certificate is for, and how many days are left of it."""
    argv = ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-ext", "subjectAltName"]
    found = mailhost_postgres.parse_certificate(__salt__["mailhost_run.program"](argv, stdin=certificate))
    ends = datetime.datetime.fromisoformat(f"{found['end']}+00:00").timestamp()
    return {"names": found["names"], "days_left": (ends - time.time()) / 86400}


def make_certificate(names, uid, authority):
    """Make the server's key and certificate, for clients that know this host's own authority.

    names
        What it is for, as openssl writes them.
    uid
        Who may read the key.
    authority
        Whether the authority is to be made too; one that is there is renewed.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.make_certificate '["IP:10.100.0.25"]' 999 False
    """
    new = ["openssl", "req", "-x509", "-noenc", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run = __salt__["mailhost_run.program"]
    ca_key, ca = f"{mailhost_postgres.CA}/ca.key", f"{mailhost_postgres.CA}/ca.crt"
    # 0700 and root's: the keys are nobody's to read before they have their owner.
    with tempfile.TemporaryDirectory(prefix="mailhost.") as place:
        made = {name: f"{place}/{name}" for name in ("ca.key", "ca.crt", "server.key", "server.crt")}
        days = ["-days", str(mailhost_postgres.CA_DAYS)]
        if authority and certificates()["ca"]:
            # Of the same name and key: a client that knows the old one takes certificates of the new one.
            run(["openssl", "x509", "-in", ca, "-key", ca_key, *days, "-out", made["ca.crt"]])
            _put(made["ca.crt"], ca, "0", "0644")
        elif authority:
            usage = [
                "-addext",
                "basicConstraints=critical,CA:TRUE,pathlen:0",
                "-addext",
                "keyUsage=critical,keyCertSign",
            ]
            subject = ["-subj", f"/CN=PostgreSQL of {os.uname().nodename}"]
            run([*new, *days, *subject, *usage, "-keyout", made["ca.key"], "-out", made["ca.crt"]])
            _put(made["ca.key"], ca_key, "0", "0600")
            _put(made["ca.crt"], ca, "0", "0644")
        _put(ca, f"{mailhost_postgres.TLS}/ca.crt", "0", "0644")
        left = int(_read(pathlib.Path(ca).read_text(encoding="utf-8"))["days_left"])
        argv = [*new, "-days", str(left), "-subj", "/CN=postgresql", "-CA", ca, "-CAkey", ca_key]
        usage = ["-addext", f"subjectAltName={','.join(names)}", "-addext", "extendedKeyUsage=serverAuth"]
        usage += ["-addext", "basicConstraints=critical,CA:FALSE"]
        run([*argv, *usage, "-keyout", made["server.key"], "-out", made["server.crt"]])
        _put(made["server.key"], f"{mailhost_postgres.TLS}/server.key", str(uid), "0600")
        _put(made["server.crt"], f"{mailhost_postgres.TLS}/server.crt", "0", "0644")


def _put(source, target, user, mode):
    text = pathlib.Path(source).read_text(encoding="utf-8")
    __salt__["mailhost_file.replace"](target, text, user, "0", mode)


def refusal(ca, certificate, key, addresses):
    """Return why clients that know an authority would refuse a server's certificate, "" when they take it.

    addresses
        By which they come to it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.refusal "$(cat ca.crt)" "$(cat crt)" "$(cat key)" '["10.100.0.25"]'
    """
    if said := _mismatch(certificate, key):
        return said
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with _written(certificate, key, ca) as (certificate_path, key_path, ca_path):
        server.load_cert_chain(certificate_path, key_path)
        try:
            client.load_verify_locations(ca_path)
        except ssl.SSLError as error:
            return f"ca: {_reason(error)}"
    try:
        for address in addresses:
            _shake_hands(server, client, address)
    except ssl.SSLCertVerificationError as error:
        return f"certificate: {error.verify_message}"
    except ssl.SSLError as error:
        return f"certificate: {_reason(error)}"
    return ""


def _mismatch(certificate, key):
    """Return why a certificate and a key do not belong together, "" when they do."""
    with _written(certificate, key) as (certificate_path, key_path):
        try:
            # Without a password openssl would ask for that of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_path, key_path, password="")
        except ssl.SSLError as error:
            return f"certificate and key: {_reason(error)}"
    return ""


@contextlib.contextmanager
def _written(*texts):
    """Let texts be in files that only root may read, for as long as they are looked at."""
    with tempfile.TemporaryDirectory(prefix="mailhost.") as place:
        paths = [pathlib.Path(place, str(number)) for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8", errors="surrogateescape")
        yield paths


def _reason(error):
    return error.reason.replace("_", " ").lower() if error.reason else "cannot be read"


def _shake_hands(server, client, address):
    """Let a client come to a server as libpq does with verify-full, in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname=address)
    for side in (asking, answering):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    asking.do_handshake()


def give_certificate(given, uid):
    """Put a certificate from the pillar in place. Params: given, ca, certificate and key; uid, who may read the key.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.give_certificate '{"ca": "", "certificate": "", "key": ""}' 999
    """
    replace = __salt__["mailhost_file.replace"]
    replace(f"{mailhost_postgres.TLS}/ca.crt", given["ca"])
    replace(f"{mailhost_postgres.TLS}/server.key", given["key"], str(uid), "0", "0600")
    replace(f"{mailhost_postgres.TLS}/server.crt", given["certificate"])


def sql(query):
    """Return what PostgreSQL answers the superuser to a query, as data: a row of json.

    query
        SQL that returns one value of type json.

    Raises CommandExecutionError with its words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.sql "select json_build_object('now', now())"
    """
    inside = ["docker", "exec", "--interactive", mailhost_postgres.CONTAINER]
    psql = ["psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"]
    psql += ["--username=postgres", "--host=/var/run/postgresql", "--dbname=postgres", "--file=-"]
    return json.loads(__salt__["mailhost_run.program"]([*inside, *psql], stdin=f"{query};\n", timeout=60))


def reload():
    """Let the server read its files again.

    Raises CommandExecutionError when it does not run.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.reload
    """
    # Docker's own way to send a signal counts as a stop by hand, after which it does not start a container again.
    found = container()
    # Docker says 0 of a container that does not run, which stands for the caller's own process group (kill(2)).
    if not found or not found["pid"]:
        raise CommandExecutionError(f"the container {mailhost_postgres.CONTAINER} does not run: docker logs tells why")
    os.kill(found["pid"], signal.SIGHUP)


def restart():
    """Let the container run by its files; when it does not get healthy, by files and image that it was healthy with.

    Raises CommandExecutionError with the words of PostgreSQL or Docker when it did not get healthy.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_postgres.restart
    """
    act, good = __salt__["mailhost_service.act"], pathlib.Path(mailhost_postgres.GOOD)
    _keep_image()
    try:
        act(mailhost_postgres.UNIT, "daemon-reload", "enable", "restart")
    except CommandExecutionError as error:
        words = f"{error}; {_last_words()}"
        if not good.is_dir():
            raise CommandExecutionError(words) from None
        act(mailhost_postgres.UNIT, "stop")
        shutil.copy2(good / "compose.yaml", mailhost_postgres.COMPOSE)
        shutil.copytree(good / "conf", mailhost_postgres.CONF, dirs_exist_ok=True)
        _bring_image_back()
        act(mailhost_postgres.UNIT, "restart")
        raise CommandExecutionError(f"{words}; what ran before runs again, by {good}") from None
    shutil.rmtree(good, ignore_errors=True)
    good.mkdir(mode=0o700)
    shutil.copy2(mailhost_postgres.COMPOSE, good)
    shutil.copytree(mailhost_postgres.CONF, good / "conf")
    _keep_image()


def _keep_image():
    """Give the image of a healthy container a name of its own: its other one may be another image's by now."""
    found = container()
    if found and (found["status"], found["health"]) == ("running", "healthy"):
        __salt__["mailhost_run.program"](["docker", "tag", found["image"], mailhost_postgres.KEPT])


def _bring_image_back():
    """Give the image that was kept the name that the Compose file has; where none was, that name stays what it is."""
    if find_image(mailhost_postgres.KEPT):
        run = __salt__["mailhost_run.program"]
        name = run(["docker", "compose", "--file", mailhost_postgres.COMPOSE, "config", "--images"]).strip()
        run(["docker", "tag", mailhost_postgres.KEPT, name])


def _last_words():
    """Return the last lines that the container printed."""
    argv = ["docker", "logs", "--tail=5", mailhost_postgres.CONTAINER]
    try:
        said = __salt__["mailhost_run.program"]([*argv])
    except CommandExecutionError as error:
        return str(error)
    return " / ".join(said.split("\n"))
