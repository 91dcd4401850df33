"""What a host's file system is, as data that two moments can be compared by."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# Not part of the host's disk, or not kept over a reboot.
NOT_ON_DISK = ("proc", "sys", "dev", "run", "tmp")

# A file that changed a moment ago can change again without its times showing it: their clock ticks in milliseconds.
_SETTLED_NS = 10**9

# Content hashes by (inode, mtime, ctime, size): nobody can set a ctime, and a btrfs snapshot keeps all four.
_known: dict[tuple[int, int, int, int], str] = {}


class Entry(NamedTuple):
    """One name in the file system; content is a hash, "-> target" for a link, else the kind of file."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: str


def tree_hash(root: Path, exclude: Iterable[str] = ()) -> dict[str, Entry]:
    """Return every path of a tree, without a leading slash, and what it is.

    Params: root; exclude, paths to leave out with all that is below them, beside those that are not on the disk.
    """
    left_out = {path.strip("/") for path in (*NOT_ON_DISK, *exclude)}
    found: dict[str, Entry] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path in left_out:
                    continue
                try:
                    seen = entry.stat(follow_symlinks=False)
                    found[path] = Entry(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, _content(entry, seen))
                except FileNotFoundError:
                    continue  # a running host removes files while we look
                if stat.S_ISDIR(seen.st_mode):
                    waiting.append(path)
    return found


def _content(entry: os.DirEntry[str], seen: os.stat_result) -> str:
    if stat.S_ISREG(seen.st_mode):
        key = (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)
        if key not in _known:
            with open(entry.path, "rb") as handle:
                content = hashlib.file_digest(handle, "sha256").hexdigest()
            if time.time_ns() - seen.st_ctime_ns < _SETTLED_NS:
                return content
            _known[key] = content
        return _known[key]
    if stat.S_ISLNK(seen.st_mode):
        return f"-> {os.readlink(entry.path)}"
    if stat.S_ISDIR(seen.st_mode):
        return "directory"
    return f"{stat.filemode(seen.st_mode)[0]} {os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
