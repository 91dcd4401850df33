"""Look at packages and install them, with apt's own tools."""

import fcntl
import os
import pathlib
import shutil
import struct
import tempfile
import time

import mailhost_pkg

__all__ = ["finish", "install", "installed", "purge", "refresh", "removal", "security_source", "simulate", "unfinished"]

JOURNAL = pathlib.Path("/var/lib/dpkg/updates")
SOURCES = pathlib.Path("/etc/apt")
LISTS = "/var/lib/apt/lists"
# Held while lists are fetched, and while packages are installed. DPkg::Lock::Timeout is for the second alone.
LISTS_LOCK, DPKG_LOCK = f"{LISTS}/lock", "/var/lib/dpkg/lock-frontend"
LOCK_SECONDS = 300
STALE_SECONDS = 3600
# --no-install-recommends: what a task needs it names. force-confold: a file we manage is not asked about.
INSTALL = [
    "apt-get",
    "-y",
    "-q",
    "--no-install-recommends",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
]
CACHES = ("pkgcache", "srcpkgcache")


def installed():
    """Return the versions of the installed packages by name; looked up once a run.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.installed
    """
    if "mailhost.packages" not in __context__:
        lines = __salt__["mailhost_run.program"](
            ["dpkg-query", "-W", "-f=${db:Status-Status} ${Package} ${Version}\\n"]
        ).splitlines()
        rows = [line.split(" ") for line in lines]
        __context__["mailhost.packages"] = {row[1]: row[2] for row in rows if row[0] == "installed"}
    return __context__["mailhost.packages"]


def unfinished():
    """Return the packages that dpkg was stopped in the middle of, ``{name: {"status": …, "version": …}}``.

    Under the name "" stands dpkg's own journal, which apt does not work with when it was left open. A dpkg that is at
    work, such as Debian's own nightly upgrade's, is waited for: it has not stopped.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.unfinished
    """
    _wait_for(DPKG_LOCK)
    lines = __salt__["mailhost_run.program"](
        ["dpkg-query", "-W", "-f=${db:Status-Status} ${Package} ${Version}\\n"]
    ).splitlines()
    rows = [line.split(" ") for line in lines]
    whole = ("installed", "not-installed", "config-files")
    found = {row[1]: {"status": row[0], "version": row[2]} for row in rows if row[0] not in whole}
    if any(entry.name.isdigit() for entry in JOURNAL.iterdir()):
        found[""] = {"status": "journal left open", "version": ""}
    return found


def finish():
    """Let dpkg finish what it was stopped in the middle of.

    Raises CommandExecutionError with dpkg's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.finish
    """
    __salt__["mailhost_run.program"](["dpkg", "--configure", "-a", "--force-confold"], timeout=1800)
    __context__.pop("mailhost.packages", None)


def simulate(names, sources=None):
    """Return what installing packages would install, dependencies included, without touching the host.

    The package lists are as fresh as the real run would make them: stale ones are fetched into a directory of their
    own. So are those of sources that this dry run would add.

    sources
        Texts of such sources, by path.

    Raises CommandExecutionError with apt's words, e.g. for a package that does not exist, and when others would have to
    go for it: what somebody has installed is not removed by the way.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.simulate '["sudo"]'
    """
    run = __salt__["mailhost_run.program"]
    if not _stale() and not sources:
        return mailhost_pkg.planned(run([*_simulate(), "install", *names]))
    if __context__.get("mailhost.lists_of") != (sources or {}):
        # Removed with the last reference, at the end of the run.
        __context__["mailhost.lists"] = tempfile.TemporaryDirectory(prefix="mailhost-apt.")
        _with_sources(sources or {})
        run([*INSTALL, *_apart(), *_caches(), "update"])
        __context__["mailhost.lists_of"] = dict(sources or {})
    return mailhost_pkg.planned(run([*_simulate(), *_apart(), "install", *names]))


def install(names):
    """Install packages; none is removed for them.

    Raises CommandExecutionError with apt's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.install '["sudo"]'
    """
    __salt__["mailhost_run.program"]([*INSTALL, "--no-remove", "install", *names], timeout=1800)
    __context__.pop("mailhost.packages", None)


def removal(names):
    """Return what purging packages would remove, with the packages that need them, without touching the host.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.removal '["telnet"]'
    """
    return mailhost_pkg.parse_removal(__salt__["mailhost_run.program"]([*_simulate(), "purge", *names]))


def purge(names):
    """Remove packages with their configuration.

    Raises CommandExecutionError with apt's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.purge '["telnet"]'
    """
    __salt__["mailhost_run.program"]([*INSTALL, "purge", *names])
    __context__.pop("mailhost.packages", None)


def security_source():
    """Return whether apt knows Debian's security archive, and the text of a source for it.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.security_source
    """
    files = [SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*.list"))]
    files += sorted(SOURCES.glob("sources.list.d/*.sources"))
    texts = [path.read_text(encoding="utf-8") for path in files if path.exists()]
    lines = pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    known, source = mailhost_pkg.security_source(texts, release["VERSION_CODENAME"])
    return {"known": known, "source": source}


def refresh(forced=False):
    """Fetch the package lists when they are missing or older than an hour, or in any case (forced).

    Raises CommandExecutionError with apt's words.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail mailhost_pkg.refresh
    """
    if forced or _stale():
        _wait_for(LISTS_LOCK)
        __salt__["mailhost_run.program"]([*INSTALL, "update"])


def _wait_for(lock):
    """Wait until nobody holds a lock of apt's; after some minutes apt itself may say that somebody does."""
    until = time.monotonic() + LOCK_SECONDS
    while _held(lock) and time.monotonic() < until:
        time.sleep(1)


def _held(path):
    """Whether a process holds a lock on a file, as F_GETLK of fcntl(2) says without taking it."""
    try:
        with open(path, "rb+") as file:
            # struct flock: type, whence, start, length, pid.
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    except FileNotFoundError:
        return False


def _stale():
    """Whether the package lists are missing or older than an hour."""
    try:
        newest = max(
            entry.stat().st_mtime for entry in os.scandir(LISTS) if entry.is_dir() or entry.name.endswith("Release")
        )
    except (FileNotFoundError, ValueError):
        return True
    return time.time() - newest > STALE_SECONDS


def _simulate():
    """Return how apt-get is asked what it would do: also then it would write a log of what its planner was asked."""
    return [*INSTALL, "-o", "Dir::Log::Planner=/dev/null", *_caches(), "-s"]


def _caches():
    """Return the options that let apt keep its caches in a directory that is removed at the end of the run.

    It writes them also when it only looks, and without them each question costs it seconds.
    """
    if "mailhost.caches" not in __context__:
        __context__["mailhost.caches"] = tempfile.TemporaryDirectory(prefix="mailhost-apt.")
    directory = __context__["mailhost.caches"].name
    return [word for name in CACHES for word in ("-o", f"Dir::Cache::{name}={directory}/{name}.bin")]


def _apart():
    """Return the options that let apt keep its lists, its downloads and its sources in a directory of their own."""
    directory = __context__["mailhost.lists"].name
    os.makedirs(f"{directory}/partial", exist_ok=True)
    options = {
        "Dir::State::Lists": directory,
        "Dir::Cache": directory,
        "Dir::Etc::SourceParts": f"{directory}/sources.list.d",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _with_sources(added):
    """Put apt's sources, and those that are to be added, where ``_apart`` looks for them."""
    directory = pathlib.Path(__context__["mailhost.lists"].name, "sources.list.d")
    shutil.copytree(SOURCES / "sources.list.d", directory)
    for path, text in added.items():
        (directory / os.path.basename(path)).write_text(text, encoding="utf-8")
