"""Where compiled kernels are kept: in a folder named for the sources they were compiled from.

numba recompiles a kernel when its own file changes, and not when a constant or another kernel
that it was compiled with changes in another file. A kernel kept from before such a change would
keep computing with outdated code. So the folder's name is a digest of all sources.

Reference: numba documentation, "Notes on Caching" and ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("market", "margin", "features", "models", "training", "serving/http/security")
"""The packages that have kernels, or constants that kernels are compiled with.

Of ``serving`` only the one with a kernel, which uses nothing of the others: an edit of a page would
else compile everything again at the next start.
"""

MAX_VERSIONS = 4
"""Folders of so many versions are kept, the newest ones."""

_PREFIX = "kernels-"
_ROOT = Path(__file__).resolve().parents[2]


def use_kernel_cache(root: Path = _ROOT) -> Path:
    """Let numba keep its kernels in the folder of the present sources.

    The folder lies in ``NUMBA_CACHE_DIR`` if that is set, else in ``__pycache__`` beside the
    packages. Older ones beyond `MAX_VERSIONS` are removed. One that cannot be written, as in an
    image with a read-only root, is copied into the user's own cache: numba passes over folders that
    it cannot write, and would compile everything again. Where there can be no copy either, numba
    says so when it compiles.

    Returns
    -------
    The folder; it need not exist yet.
    """
    configured = os.environ.get("NUMBA_CACHE_DIR")
    if configured and Path(configured).name.startswith(_PREFIX):
        return Path(configured)  # set by this function, in this process or its parent
    parent = Path(configured) if configured else root / "__pycache__"
    folder = parent / f"{_PREFIX}{sources_sha256(root)[:16]}"
    if folder.is_dir() and not os.access(folder, os.W_OK):
        folder = _writable_copy(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    numba = sys.modules.get("numba")
    if numba is not None:  # it has read the environment already
        numba.config.CACHE_DIR = str(folder)
    _remove_old(folder.parent, folder)
    return folder


def sources_sha256(root: Path) -> str:
    """Digest of the path and content of every source file of `PACKAGES`."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _writable_copy(kept: Path) -> Path:
    """The copy of a folder of kernels in the user's cache, or the folder if there can be none."""
    copy = Path("~/.cache/margincast").expanduser() / kept.name
    try:
        if not copy.is_dir():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=copy.parent) as made:
                # Renamed when complete, because other processes may start at the same time.
                shutil.copytree(kept, Path(made) / kept.name).rename(copy)
    except OSError:  # it cannot be written, or another process was first
        return copy if copy.is_dir() else kept
    return copy


def _remove_old(parent: Path, present: Path) -> None:
    others = [path for path in parent.glob(f"{_PREFIX}*") if path != present]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[MAX_VERSIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)  # another process may be at it too
