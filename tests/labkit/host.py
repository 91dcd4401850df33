"""A host as a whole: what runs, its files with their snapshots, and logins over the wire."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import net, store, tree
from .machine import Machine
from .tools import LabError, run


class Host(Machine):
    """A Debian host of a lab. `root` is its file tree on this machine."""

    # --- files

    def create(self, image: Path) -> None:
        """Make the file tree from a base image, with host keys, a machine id and the lab's key for root."""
        unfinished = self.root.with_name(f"{self.machine}.unfinished")
        store.remove(unfinished)
        store.copy(image, unfinished)
        (unfinished / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        run(["ssh-keygen", "-q", "-A", "-f", unfinished])
        resolver = Path("/run/systemd/resolve/resolv.conf")  # what 127.0.0.53 stands for, which is not in there
        shutil.copyfile(resolver if resolver.exists() else "/etc/resolv.conf", unfinished / "etc/resolv.conf")
        keys = unfinished / "root/.ssh/authorized_keys"
        shutil.copyfile(self.directory / "id_ed25519.pub", keys)
        keys.chmod(0o600)
        unfinished.rename(self.root)

    def put(self, text: str, path: str, mode: int = 0o644) -> None:
        """Write a file of root's, from outside; its directory is made if need be."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """Return the text of a file, from outside."""
        return self._inside(path).read_text()

    def tree_hash(self, exclude: Iterable[str] = ()) -> dict[str, tree.Entry]:
        """Return what the whole file system is; see `tree.tree_hash`."""
        return tree.tree_hash(self.root, exclude)

    def snapshot(self, name: str) -> None:
        """Keep the file tree as it is now, in place of an older snapshot of that name.

        Of a running host it is what a power cut would leave (on btrfs; plain copies take their time: switch it off).
        """
        store.remove(self._snapshot(name))
        store.copy(self.root, self._snapshot(name))

    def take(self, other: str, name: str) -> bool:
        """Have another host's snapshot as one of this host's own, and return whether it is there.

        Params: other, the name of its machine; name.
        """
        there = store.trees() / f"{other}@{name}"
        if there.exists():
            store.remove(self._snapshot(name))
            store.copy(there, self._snapshot(name))
        return there.exists()

    def restore(self, name: str, *, port: int | None = 22) -> None:
        """Put the file tree back to a snapshot; a running host loses power and is booted again.

        Params: name; port as `wait_running`. Raises: LabError when there is no such snapshot.
        """
        if not self._snapshot(name).exists():
            raise LabError(f"host {self.name} has no snapshot {name}")
        running = self.running()
        self.power_cut()
        store.remove(self.root)
        store.copy(self._snapshot(name), self.root)
        if running:
            self.boot(port=port)

    def remove(self) -> None:
        """Cut the power and remove the file tree and its snapshots."""
        self.power_cut()
        for path in (self.root, *self.root.parent.glob(f"{self.machine}[@.]*")):
            store.remove(path)
        self.root.with_name(f".#{self.machine}.lck").unlink(missing_ok=True)  # nspawn's

    @property
    def host_key(self) -> str:
        """The public ed25519 host key, without its comment."""
        return " ".join(self.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    # --- logins

    def ssh(
        self,
        argv: Sequence[str],
        user: str = "root",
        port: int = 22,
        from_namespace: str | None = None,
        *,
        address: str | None = None,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over the wire, with the lab's key and the host's key pinned.

        Params: argv; user; port; from_namespace, the name of a namespace of the lab to come from (else this machine);
        address to use (else the host's IPv4 one); the rest as `tools.run`.
        """
        source = []
        if from_namespace is not None:
            source = ["nsenter", f"--net={net.Address(self.address.slot, from_namespace, 0).handle}"]
        command = [*self.ssh_command(user, port, address), shlex.join(argv)]
        return run([*source, *command], check=check, input=input, timeout=timeout)

    def ssh_command(self, user: str = "root", port: int = 22, address: str | None = None) -> list[str]:
        """Return the ssh command that logs in, for a shell or with a command added. Params as `ssh`."""
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": self.name,
            "LogLevel": "ERROR",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        key = str(self.directory / "id_ed25519")
        return ["ssh", "-F", "/dev/null", "-i", key, *words, "-p", str(port), f"{user}@{address or self.ipv4}"]

    # --- helpers

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _snapshot(self, name: str) -> Path:
        return self.root.with_name(f"{self.machine}@{name}")
