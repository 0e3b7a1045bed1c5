"""Reading of files that are not trusted, and writing that survives a crash."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from market.core.errors import BundleError


def read_plain(path: Path, limit: int) -> bytes:
    """Content of a regular file; links, devices and longer files are refused.

    Parameters
    ----------
    path:
        The file.
    limit:
        Most bytes it may have.

    Raises
    ------
    BundleError
        The file is a link, no regular file, longer than the limit, or cannot be read.
    FileNotFoundError
        There is no such file.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BundleError(f"{path} is not a regular file; put the file itself there")
            data = stream.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); it must be a regular file, not a link"
        ) from error
    if len(data) > limit:
        raise BundleError(f"{path} is longer than {limit} bytes; it is no file of a bundle")
    return data


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
