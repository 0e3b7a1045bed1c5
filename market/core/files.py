"""Files: atomic replacement, flushing to disk, and the stamp that shows a change."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside `path`, flush it to disk, then put it in place in one step, which is
    flushed to disk too.

    Who may read it is what the umask says, as for any other file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        name.replace(path)
        sync_path(path.parent)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


FileStamp = tuple[int, int, int]
"""Time of change in nanoseconds, size in bytes and inode of a file."""


def file_stamp(path: Path) -> FileStamp | None:
    """What changes when a file is written or replaced; None if it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def sync_path(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk.

    Raises
    ------
    OSError
        It cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
