"""A container image of PostgreSQL for machines without a registry: Debian's packages behind the official contract.

Written from the official image's documentation, and a stand-in for it: the same user and paths, the same environment
variables, the same entry point's manners. It is a file that `docker load` takes, under the official image's name, so
the tree under test does with it what it does with the real one.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import store
from .apt import SUITE, read_apt
from .chroot import CHROOT, bootstrap
from .tools import cache_dir, locked, require_programs, run

# Where lab hosts have it; in their pillar: postgres.image_archive.
ARCHIVE = "/srv/images/postgres.tar"
DATA = "/var/lib/postgresql/data"
ENTRYPOINT = Path(__file__).with_name("postgres-entrypoint.sh")
PACKAGES = ("ca-certificates", "gosu", "locales", "zstd", "xz-utils", "libnss-wrapper")
# The official image's user has 999; Debian's package would take the next free number. JIT is left out for its size.
_SCRIPT = """
groupadd -r -g 999 postgres
useradd -r -g postgres -u 999 -d /var/lib/postgresql -s /bin/bash postgres
[ ! -d /usr/local/share/ca-certificates ] || update-ca-certificates >/dev/null 2>&1
mkdir /etc/postgresql-common
echo create_main_cluster = false >/etc/postgresql-common/createcluster.conf
apt-get update -q
apt-get install -y -q --no-install-recommends postgresql-{major} pgbackrest
dpkg-query -W -f '${{Version}}' postgresql-{major} >/postgresql.version
install -d -o postgres -g postgres -m 1777 {data}
install -d -o postgres -g postgres -m 3777 /var/run/postgresql
mkdir /docker-entrypoint-initdb.d
rm -rf /usr/lib/postgresql/{major}/lib/llvmjit.so /usr/lib/postgresql/{major}/lib/bitcode
rm -rf /usr/lib/*/libLLVM* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/i18n
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /tmp/* /etc/apt/apt.conf.d/99machine /etc/resolv.conf
"""


@dataclass(frozen=True)
class Image:
    """One of the official images: PostgreSQL's major version, and the suites of Debian that its packages are from."""

    major: str
    suites: tuple[str, ...] = (SUITE,)

    @property
    def name(self) -> str:
        """What the tree knows it by."""
        return f"postgres:{self.major}-{SUITE}"

    @property
    def script(self) -> str:
        """What makes it of a minimal Debian."""
        return _SCRIPT.format(major=self.major, data=DATA)


# What lab hosts have; and an older major version, which as in the official image has the newest pgBackRest.
POSTGRES, OLDER = Image("17"), Image("15", (SUITE, "bookworm"))


def place(image: Image = POSTGRES) -> Path:
    """Return where an image is, or will be, as a file for `docker load`; what it is made of is in its name."""
    apt = read_apt()
    sources = apt.sources(image.suites)
    wanted = [image.name, PACKAGES, SUITE, CHROOT, image.script, ENTRYPOINT.read_text(), sources, apt.options]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]
    return cache_dir() / f"images/postgres-{key}.tar"


def archive(image: Image = POSTGRES) -> Path:
    """Return an image as a file for `docker load`, building it when it is not there yet (about a minute).

    Raises: LabError when this machine cannot build it.
    """
    made = place(image)
    with locked(store.building(), shared=True), locked(made.with_suffix(".lock")):
        if not made.exists():
            require_programs("debootstrap")
            tree = made.with_suffix(".unfinished")
            shutil.rmtree(tree, ignore_errors=True)
            tree.mkdir()
            try:
                bootstrap(tree, read_apt(), PACKAGES, image.script, image.suites)
                version = (tree / "postgresql.version").read_text()
                (tree / "postgresql.version").unlink()
                target = tree / "usr/local/bin/docker-entrypoint.sh"
                shutil.copyfile(ENTRYPOINT, target)
                target.chmod(0o755)
                _pack(tree, image, version, made)
            finally:
                shutil.rmtree(tree, ignore_errors=True)
    return made


def _pack(tree: Path, image: Image, version: str, archive: Path) -> None:
    """Write a file system as an image in the format of `docker save`: one layer, its configuration, a list of both."""
    layer = archive.with_suffix(".layer")
    run(["tar", "-C", tree, "--one-file-system", "--numeric-owner", "--sort=name", "-cf", layer, "."])
    with layer.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                f":/usr/lib/postgresql/{image.major}/bin",
                "LANG=C.UTF-8",
                f"PG_MAJOR={image.major}",
                f"PG_VERSION={re.sub(r'^[0-9]+:', '', version)}",
                f"PGDATA={DATA}",
            ],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {DATA: {}},
            "StopSignal": "SIGINT",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "labkit"}],
    }).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest()
    listed = [{"Config": f"{name}.json", "RepoTags": [image.name], "Layers": ["layer.tar"]}]
    unfinished = archive.with_suffix(".packing")
    with tarfile.open(unfinished, "w") as out:
        for path, text in ((f"{name}.json", config), ("manifest.json", json.dumps(listed).encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text))
        out.add(layer, "layer.tar")
    layer.unlink()
    unfinished.rename(archive)
