"""Which code ran: the hash follows every source, and only sources."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.provenance import (
    FACADE,
    PACKAGES,
    git_commit,
    library_versions,
    source_sha256,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for package in (FACADE, *PACKAGES):
        (root / package / "inner").mkdir(parents=True)
        (root / package / "inner" / "code.py").write_text(f"# {package}\n")
    return root


def test_copy_has_the_same_hash_and_any_edit_another(tree: Path, tmp_path: Path) -> None:
    before = source_sha256(tree)
    copied = tmp_path / "elsewhere"
    shutil.copytree(tree, copied)
    assert source_sha256(copied) == before
    (copied / "market" / "inner" / "code.py").write_text("# market, edited\n")
    assert source_sha256(copied) != before


@pytest.mark.parametrize("package", [FACADE, *PACKAGES])
def test_an_edit_in_any_package_changes_the_hash(tree: Path, package: str) -> None:
    before = source_sha256(tree)
    (tree / package / "inner" / "code.py").write_text("# edited\n")
    assert source_sha256(tree) != before


def test_moving_a_file_or_adding_a_rule_set_changes_the_hash(tree: Path) -> None:
    before = source_sha256(tree)
    file = tree / "margin" / "inner" / "code.py"
    file.rename(file.with_name("moved.py"))
    moved = source_sha256(tree)
    (tree / "margin" / "rules.toml").write_text("a = 1\n")
    assert len({before, moved, source_sha256(tree)}) == 3


def test_caches_and_other_files_do_not_count(tree: Path) -> None:
    before = source_sha256(tree)
    (tree / "market" / "__pycache__").mkdir()
    (tree / "market" / "__pycache__" / "code.pyc").write_bytes(b"x")
    (tree / "notes.py").write_text("outside the packages\n")
    assert source_sha256(tree) == before


def test_a_file_that_the_wheel_rewrote_counts_as_in_the_repository_until_it_is_edited(
    tree: Path,
) -> None:
    before = source_sha256(tree)
    (tree / FACADE / "inner").rename(tree / "inner")  # the root of a wheel is the facade
    (tree / FACADE).rmdir()
    file, named = tree / "market" / "inner" / "code.py", {}
    for path in (file, tree / "inner" / "code.py"):
        content = path.read_bytes()
        path.write_bytes(b"# rewritten\n")
        texts = {"packed": b"# rewritten\n", "repository": content}
        digests = {key: hashlib.sha256(text).hexdigest() for key, text in texts.items()}
        named[path.relative_to(tree).as_posix()] = digests
    (tree / "sources.json").write_text(json.dumps(named))
    (tree / "margincast.toml").write_text("# the demonstration's, which is no source\n")
    assert source_sha256(tree) == before
    file.write_bytes(b"# edited\n")
    assert source_sha256(tree) != before


def test_every_package_of_the_wheel_is_hashed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted((FACADE, *PACKAGES)) == sorted(packed)
    assert source_sha256() == source_sha256(ROOT)


def test_commit_is_that_of_the_checkout_and_marks_changes(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None, "no checkout"
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            [git, "-C", str(tmp_path), *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    run("init", "-q")
    (tmp_path / "code.py").write_text("a\n")
    run("add", "code.py")
    run("commit", "-q", "--no-gpg-sign", "-m", "a")
    head = run("rev-parse", "HEAD")
    assert git_commit(tmp_path) == head
    (tmp_path / "untracked.py").write_text("b\n")
    assert git_commit(tmp_path) == head
    (tmp_path / "code.py").write_text("b\n")
    assert git_commit(tmp_path) == f"{head}+changes"


@pytest.mark.parametrize(
    "error", [subprocess.TimeoutExpired("git", 10), PermissionError("git is no program")]
)
def test_git_that_does_not_answer_fails_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    (tmp_path / ".git").mkdir()
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/git")
    monkeypatch.setattr("subprocess.run", run)
    assert git_commit(tmp_path) is None


def test_versions_are_those_installed() -> None:
    versions = library_versions()
    assert {"numpy", "lightgbm", "mlflow"} <= versions.keys()
    assert all(version[0].isdigit() for version in versions.values())
