"""Compiled kernels never outlive the constants they were compiled with."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from market.core.kernel_cache import MAX_VERSIONS, PACKAGES, sources_sha256, use_kernel_cache

ROOT = Path(__file__).resolve().parents[3]

KERNEL = """
from numba import njit
from market.constant import FACTOR

@njit(cache=True)
def kernel(x):
    return FACTOR * x
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of packages with one kernel and, in another file, its constant."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    folder = vars(numba.config)["CACHE_DIR"]
    monkeypatch.setattr(numba.config, "CACHE_DIR", folder)  # put back afterwards
    for package in PACKAGES:
        (tmp_path / package).mkdir(parents=True)
    source = Path(sys.modules["market.core.kernel_cache"].__file__ or "").read_text("utf-8")
    (tmp_path / "market" / "core").mkdir()
    (tmp_path / "market" / "core" / "kernel_cache.py").write_text(source, "utf-8")
    (tmp_path / "market" / "__init__.py").write_text(
        "from market.core.kernel_cache import use_kernel_cache\nuse_kernel_cache()\n", "utf-8"
    )
    (tmp_path / "market" / "constant.py").write_text("FACTOR = 2.0\n", "utf-8")
    (tmp_path / "market" / "kernel.py").write_text(KERNEL, "utf-8")
    return tmp_path


def _run(tree: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", "from market.kernel import kernel; print(kernel(3.0))"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


@pytest.mark.slow
def test_constant_of_another_file_is_not_kept_from_before(tree: Path) -> None:
    assert _run(tree) == 6.0
    assert list(tree.rglob("*.nbc")), "the kernel was not kept, so this shows nothing"
    (tree / "market" / "constant.py").write_text("FACTOR = 5.0\n", "utf-8")
    assert _run(tree) == 15.0


def test_folder_changes_with_every_source_and_with_nothing_else(tree: Path) -> None:
    before = sources_sha256(tree)
    (tree / "training" / "notes.txt").write_text("no source", "utf-8")
    assert sources_sha256(tree) == before
    (tree / "features" / "new.py").write_text("", "utf-8")
    added = sources_sha256(tree)
    assert added != before
    (tree / "features" / "new.py").rename(tree / "margin" / "new.py")
    moved = sources_sha256(tree)
    assert moved not in (before, added)
    (tree / "serving" / "page.py").write_text("", "utf-8")
    assert sources_sha256(tree) == moved, "no kernel is compiled with a page"


def test_folder_given_by_the_user_is_the_parent(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    folder = use_kernel_cache(tree)
    assert folder.parent == tmp_path / "mine"
    assert use_kernel_cache(tree) == folder, "a process of ours that is started later finds it"


def test_old_folders_are_removed(tree: Path) -> None:
    for age in range(MAX_VERSIONS + 3):
        folder = tree / "__pycache__" / f"kernels-{age}"
        folder.mkdir(parents=True)
        os.utime(folder, (age, age))
    use_kernel_cache(tree)
    left = {path.name for path in (tree / "__pycache__").glob("kernels-*")}
    assert left == {f"kernels-{age}" for age in range(4, MAX_VERSIONS + 3)}


def test_kernels_that_can_only_be_read_are_used_from_a_copy(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = use_kernel_cache(tree)
    kept.mkdir(parents=True)
    (kept / "kernel.nbc").write_bytes(b"compiled")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != kept)  # tests run as root
    copy = use_kernel_cache(tree)
    assert copy == tmp_path / "home" / ".cache" / "margincast" / kept.name
    assert (copy / "kernel.nbc").read_bytes() == b"compiled"
    assert os.environ["NUMBA_CACHE_DIR"] == str(copy)
    (copy / "later.nbc").write_bytes(b"compiled here")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert use_kernel_cache(tree) == copy
    assert (copy / "later.nbc").exists(), "what was compiled since is kept"


def test_kernels_that_can_be_neither_written_nor_copied_stay_where_they_are(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = use_kernel_cache(tree)
    kept.mkdir(parents=True)
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (tmp_path / "home").write_text("no folder", "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert use_kernel_cache(tree) == kept


def test_every_package_with_kernels_is_listed() -> None:
    with_kernels = [
        path
        for package in sorted(ROOT.glob("[a-z]*/__init__.py"))
        if package.parent.name not in ("tests", "benchmarks", "research")
        for path in package.parent.rglob("*.py")
        if "@njit" in path.read_text("utf-8") or "@numba.njit" in path.read_text("utf-8")
    ]
    found = {_listed(path.relative_to(ROOT)) for path in with_kernels}
    assert found == set(PACKAGES)


def test_kernels_of_a_part_of_a_package_use_nothing_of_the_rest() -> None:
    for package in PACKAGES:
        if "/" not in package:
            continue
        top, own = package.split("/", maxsplit=1)[0], package.replace("/", ".")
        for path in (ROOT / package).glob("*.py"):
            if "@njit" not in path.read_text("utf-8"):
                continue
            tree = ast.parse(path.read_text("utf-8"))
            used = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
            used += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
            assert not [
                name for name in used if f"{name}.".startswith(f"{top}.") and own not in name
            ]


def _listed(path: Path) -> str | None:
    """Which of `PACKAGES` has a file."""
    return next((one for one in PACKAGES if path.is_relative_to(one)), None)
