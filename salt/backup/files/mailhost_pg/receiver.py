"""Take WAL as the server writes it: pg_receivewal with a slot of its own, in a container without a network.

It runs as long as its unit does, whatever the server does. Before each connection the slot is made if it is not there,
as after a restore, and what lies in the directory is put aside if the server does not go on with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from . import container, drill, scratch, tail
from .config import Config, Failed, Refused, alone

LOCK = Path("/run/mailhost-pg-tail.lock")
NAME = "mailserver-postgres-tail"
# Role and slot.
SLOT = "mailhost_tail"
_AGAIN = 2.0
_PRUNED = 10.0
# From then on systemd is told that it runs, also when the server does not: nothing waits for that.
_PATIENCE = 60.0
QUESTION = f"""SELECT json_build_object(
    'cluster', (SELECT system_identifier::text FROM pg_control_system()),
    'segment', pg_walfile_name(pg_current_wal_lsn()),
    'slot', (SELECT json_build_object('active', active, 'kept', pg_walfile_name(restart_lsn))
        FROM pg_replication_slots WHERE slot_name = '{SLOT}'))"""
_DROP = f"SELECT pg_drop_replication_slot('{SLOT}')"
# It keeps WAL from the last checkpoint on.
_MAKE = f"SELECT pg_create_physical_replication_slot('{SLOT}', true)"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options: there are none."""


def main(config: Config, asked: argparse.Namespace) -> int:
    """Do it until a signal comes."""
    place = config.tail
    if place is None:
        raise Refused("backup.tail.enabled is false")
    begun, told, last = time.monotonic(), False, ""
    with alone(wait=False, lock=LOCK, what="takes WAL already"), drill.interruptible():
        while True:
            said = ""
            try:
                prepare(config, place)
                told = receive(config, place, told)
            except Failed as error:
                said = str(error)
            if said != last:
                print(said or "pg_receivewal ended, and begins again", flush=True)
                last = said
            if not told and time.monotonic() > begun + _PATIENCE:
                told = _tell()
            time.sleep(_AGAIN)


def prepare(config: Config, place: Path) -> None:
    """Let there be a slot, and nothing in the directory that the server does not go on with.

    Raises Failed when the server does not answer, or is another cluster's.
    """
    if not place.is_dir():
        raise Failed(f"{place}: is not there: apply task 2.1.3 again")
    server = _ask(config)
    cluster = config.marker.read_text(encoding="utf-8").strip()
    if server["cluster"] != cluster:
        raise Failed(f"the server is cluster {server['cluster']}, and this host's is {cluster}")
    if server["slot"] and server["slot"]["kept"] is None:
        print("the slot has lost WAL, which the archive has: it is made anew", flush=True)
        container.sql(config, _DROP)
        server["slot"] = None
    if not server["slot"]:
        container.sql(config, _MAKE)
        server = _ask(config)
    there, ours = tail.pieces(place), tail.readable(place, cluster)
    strange = [piece for piece in there if piece.whole and piece.name not in ours]
    if strange or not tail.follows(there, server["segment"], server["slot"]["kept"]):
        print(f"the server does not go on with what is in {place}: that is put aside", flush=True)
        tail.put_aside(config, place)


def receive(config: Config, place: Path, told: bool) -> bool:
    """Run pg_receivewal until it ends, and return whether systemd has been told that WAL is taken.

    Params: told, whether it was before.
    """
    container.remove(NAME)
    inode, pruned = place.stat().st_ino, time.monotonic()
    process = subprocess.Popen(argv(config, place), stdin=subprocess.DEVNULL, env=container.ENVIRONMENT)
    try:
        while process.poll() is None:
            if not told:
                told = _streams(config) and _tell()
            if time.monotonic() > pruned + _PRUNED:
                # Removed by somebody, it would go on writing where nobody finds it.
                if not place.is_dir() or place.stat().st_ino != inode:
                    break
                tail.prune(config, place)
                pruned = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_AGAIN if told else 0.3)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        container.remove(NAME)
    return told


def argv(config: Config, place: Path) -> list[str]:
    """Return how pg_receivewal is run: as PostgreSQL's user, with its socket and the directory, and nothing else."""
    words = ["docker", "run", "--rm", "--pull=never", "--log-driver=none", f"--name={NAME}", "--network=none"]
    words += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=16"]
    words += [f"--user={config.uid}:{config.uid}", f"--tmpfs={scratch.DATA}"]
    words += [f"--volume={config.sockets}:{config.sockets}:ro"]
    # A volume would be made where there is none.
    words += [f"--mount=type=bind,source={place},target=/tail"]
    words += ["--entrypoint=pg_receivewal", config.image, "--directory=/tail", f"--slot={SLOT}", "--no-loop"]
    # Written out at once: a host that loses its data often loses its power too. No commit waits for that.
    return [*words, "--synchronous", "--no-password", f"--username={SLOT}", f"--host={config.sockets}"]


def _ask(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(container.sql(config, QUESTION))
    return found


def _streams(config: Config) -> bool:
    """Whether the slot is read."""
    try:
        slot = _ask(config)["slot"]
    except Failed:
        return False
    return bool(slot and slot["active"])


def _tell() -> bool:
    """Tell systemd that it runs (sd_notify(3)); return True."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.connect(f"\0{path[1:]}" if path[0] == "@" else path)
            line.send(b"READY=1")
    return True
