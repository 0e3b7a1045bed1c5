"""Pointer files beside the bundles: the champion, the one before it and the challenger."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from market.core.errors import BundleError
from market.core.files import sync_path
from models.bundle.safe_io import read_plain, write_durably
from models.bundle.schema import is_sha256

CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"
"""Scored in shadow beside the champion, see `monitoring.shadow`."""
POINTERS = (CHAMPION, PREVIOUS, CHALLENGER)
_MAX_BYTES = 128

_LOG = logging.getLogger("margincast.models")


def read_pointer(root: Path, name: str) -> str | None:
    """The SHA-256 that a pointer file names, or None where there is no such file.

    Parameters
    ----------
    root:
        Folder of the bundles.
    name:
        One of `POINTERS`.

    Raises
    ------
    BundleError
        The name is no pointer's, the file is a link or no plain file, or it does not hold one
        SHA-256.
    """
    path = _pointer_path(root, name)
    try:
        text = read_plain(path, _MAX_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if not is_sha256(text):
        raise BundleError(
            f"pointer {path} does not hold one SHA-256 of 64 lower-case hex digits; promote a "
            "bundle again"
        )
    return text


def read_sound_pointer(root: Path, name: str) -> str | None:
    """As `read_pointer`, and None with a warning in the log where the pointer is damaged.

    For what replaces the pointer and so repairs it.
    """
    try:
        return read_pointer(root, name)
    except BundleError as error:
        _LOG.warning("pointer %s is damaged, what it named is unknown: %s", name, error)
        return None


def write_pointer(root: Path, name: str, sha: str) -> None:
    """Replace a pointer file atomically and durably.

    Raises
    ------
    BundleError
        The name is not a pointer's, the SHA-256 is malformed, or its bundle is not there.
    """
    path = _pointer_path(root, name)
    if not is_sha256(sha):
        raise BundleError(f"bundle is named {sha!r}; expected 64 lower-case hex digits")
    if not (root / sha).is_dir():
        raise BundleError(f"bundle {sha} is not in {root}; write the bundle before pointing to it")
    incoming = root / f".{name}-{secrets.token_hex(8)}"
    try:
        write_durably(incoming, f"{sha}\n".encode())
        incoming.replace(path)
    finally:
        incoming.unlink(missing_ok=True)
    sync_path(root)


def set_challenger(root: Path, sha: str | None) -> None:
    """Make a bundle the challenger; None, or the champion itself: there is none.

    Raises
    ------
    BundleError
        As `write_pointer`.
    """
    if sha is None or sha == read_pointer(root, CHAMPION):
        (root / CHALLENGER).unlink(missing_ok=True)
    elif sha != read_sound_pointer(root, CHALLENGER):
        write_pointer(root, CHALLENGER, sha)


def promote(root: Path, sha: str) -> None:
    """Make a bundle champion; the old champion becomes previous.

    Promoting the champion changes nothing. Previous is written first, so that a crash between the
    two leaves the champion as it was. With a damaged pointer the previous champion is unknown:
    previous then stays at what was champion before that, if it is another bundle.

    Raises
    ------
    BundleError
        The SHA-256 is malformed, or its bundle is not there.
    """
    champion = read_sound_pointer(root, CHAMPION)
    if champion == sha:
        return
    if not is_sha256(sha) or not (root / sha).is_dir():
        raise BundleError(f"bundle {sha!r} is not in {root}; write the bundle before promoting it")
    if champion is not None:
        write_pointer(root, PREVIOUS, champion)
    elif read_sound_pointer(root, PREVIOUS) in (None, sha):
        (root / PREVIOUS).unlink(missing_ok=True)
    write_pointer(root, CHAMPION, sha)


def rollback(root: Path) -> str:
    """Make the previous bundle champion again and return its SHA-256; the two change places.

    Raises
    ------
    BundleError
        There is no previous bundle, it is the champion already, or its folder is gone.
    """
    champion = read_pointer(root, CHAMPION)
    previous = read_pointer(root, PREVIOUS)
    if previous is None or previous == champion:
        raise BundleError(f"{root} names no earlier champion; promote a bundle by its SHA-256")
    write_pointer(root, CHAMPION, previous)
    if champion is not None:
        write_pointer(root, PREVIOUS, champion)
    return previous


def _pointer_path(root: Path, name: str) -> Path:
    if name not in POINTERS:
        raise BundleError(f"pointer {name!r} is not known; expected one of {POINTERS}")
    return root / name
