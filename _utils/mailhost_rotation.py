#!/usr/bin/python3
"""A new private key for the tunnel, on trial: kept once a peer has shaken hands with it, else the old one is back.

Imported by nothing: a copy below /run is what systemd runs, with Python's own library and no Salt. A reboot in between
ends the trial too, since the configuration on the disk still has the old key.
"""

import os
import pathlib
import subprocess
import sys
import time


def main(interface: str, key_file: str, delay: int, patience: int) -> int:
    """Switch to the key, wait for a handshake, and write it into the configuration.

    interface
        The tunnel.
    key_file
        The file with the new private key.
    delay
        Seconds until the switch.
    patience
        Seconds to wait for a handshake.
    """
    time.sleep(delay)
    before = handshakes(wg("show", interface, "latest-handshakes"))
    wg("set", interface, "private-key", key_file)
    print(f"{interface} has the new key and waits {patience} s for a handshake", flush=True)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(1)
        if handshakes(wg("show", interface, "latest-handshakes")) != before:
            configuration = pathlib.Path(f"/etc/wireguard/{interface}.conf")
            write(configuration, with_key(configuration.read_text(), pathlib.Path(key_file).read_text().strip()))
            print("a peer has shaken hands: the new key is kept")
            return 0
    print("no peer has shaken hands: the old key is back")
    return 1


def wg(*words: str) -> str:
    """Return what wg(8) prints."""
    return subprocess.run(["wg", *words], capture_output=True, text=True, check=True).stdout


def handshakes(shown: str) -> dict[str, str]:
    """Return when each peer shook hands last, from ``wg show … latest-handshakes``."""
    return dict(line.split("\t") for line in shown.splitlines())


def with_key(text: str, key: str) -> str:
    """Return a configuration with another private key."""
    return "".join(
        f"PrivateKey = {key}\n" if line.startswith("PrivateKey = ") else line for line in text.splitlines(keepends=True)
    )


def write(path: pathlib.Path, text: str) -> None:
    """Replace a file of root's alone in one step, safe on the disk."""
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
