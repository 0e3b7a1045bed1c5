"""Which code ran, and by whom: a hash over the sources, their commit, library versions, user."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

FACADE = "margincast"
PACKAGES = (
    "decisions",
    "enforcement",
    "features",
    "ledger",
    "margin",
    "market",
    "models",
    "monitoring",
    "pipelines",
    "serving",
    "training",
)
"""The packages below the facade, which the wheel moves into it."""

LIBRARIES = ("lightgbm", "mlflow", "numba", "numpy", "onnx", "onnxruntime", "scikit-learn", "scipy")
SOURCES = (".py", ".toml", ".html")

_ROOT = Path(__file__).resolve().parents[2]
_PACKED = "sources.json"
"""Written by deploy/wheel/wheel_layout.py; a checkout has none."""

_GIT_SECONDS = 10


def source_sha256(root: Path = _ROOT) -> str:
    """SHA-256 over the name and content of every source file of the project, in name order.

    A checkout and its installed wheel have the same digest; any edit, committed or not, changes
    it. Sources are Python, rule sets, populations and templates of `PACKAGES`, and the Python of
    the facade, whose MLflow loader computes what a registered model answers. A file whose imports
    the wheel rewrote counts with its content in the repository, which ``sources.json`` names, as
    long as it is the file that was packed.
    """
    digest = hashlib.sha256()
    listing = root / _PACKED
    packed = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else {}
    for name, path in sorted(_sources(root)):
        digest.update(f"{name}\0".encode())
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        known = packed.get(path.relative_to(root).as_posix())
        if known is not None and known["packed"] == content:
            content = known["repository"]
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Each source file with its path in the repository; in a wheel `root` is the facade itself."""
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.suffix in SOURCES and path.is_file():
                yield path.relative_to(root).as_posix(), path
    facade = root if (root / _PACKED).is_file() else root / FACADE
    for path in facade.rglob("*.py"):
        place = path.relative_to(facade)
        if place.parts[0] not in PACKAGES:
            yield f"{FACADE}/{place.as_posix()}", path


def git_commit(root: Path = _ROOT) -> str | None:
    """The commit checked out at `root`, followed by ``+changes`` if a tracked file differs.

    None without git, or if `root` is no checkout (an installed wheel).
    """
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    head = _git(git, root, "rev-parse", "HEAD")
    if head is None:
        return None
    changed = _git(git, root, "status", "--porcelain", "--untracked-files=no")
    return head if changed == "" else f"{head}+changes"


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results can depend on."""
    return {name: version(name) for name in LIBRARIES}


def user_name() -> str:
    """Name of the user that runs this process; ``uid`` and its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the user database, as in some containers
        return f"uid {os.getuid()}"


def _git(git: str, root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
