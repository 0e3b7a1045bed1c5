from __future__ import annotations

from pathlib import Path

import pytest

from market.core.errors import BundleError
from models.bundle.pointer import (
    CHALLENGER,
    promote,
    read_pointer,
    rollback,
    set_challenger,
    write_pointer,
)

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for sha in (A, B, C):
        (tmp_path / sha).mkdir()
    return tmp_path


def test_no_pointer_yet(root: Path) -> None:
    assert read_pointer(root, "champion") is None


def test_pointer_is_one_line(root: Path) -> None:
    write_pointer(root, "champion", A)
    assert (root / "champion").read_text() == A + "\n"
    assert read_pointer(root, "champion") == A


def test_replacing_leaves_no_other_files(root: Path) -> None:
    write_pointer(root, "champion", A)
    write_pointer(root, "champion", B)
    assert {path.name for path in root.iterdir()} == {A, B, C, "champion"}


def test_promote_keeps_the_old_champion(root: Path) -> None:
    promote(root, A)
    assert read_pointer(root, "previous") is None
    promote(root, B)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (B, A)


def test_promoting_the_champion_does_not_lose_the_previous(root: Path) -> None:
    promote(root, A)
    promote(root, B)
    promote(root, B)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (B, A)


def test_rollback_twice_is_where_it_began(root: Path) -> None:
    promote(root, A)
    promote(root, B)
    assert rollback(root) == A
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (A, B)
    assert rollback(root) == B


def test_rollback_without_a_previous_is_refused(root: Path) -> None:
    with pytest.raises(BundleError, match="no earlier champion"):
        rollback(root)
    promote(root, A)
    with pytest.raises(BundleError, match="no earlier champion"):
        rollback(root)


def test_failed_promotion_changes_nothing(root: Path) -> None:
    promote(root, A)
    promote(root, B)
    for wrong in ("d" * 64, "../" + A, A.upper(), ""):
        with pytest.raises(BundleError):
            promote(root, wrong)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (B, A)


def test_rollback_to_a_lost_bundle_changes_nothing(root: Path) -> None:
    promote(root, A)
    promote(root, B)
    (root / A).rmdir()
    with pytest.raises(BundleError, match="is not in"):
        rollback(root)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (B, A)


@pytest.mark.parametrize("content", [b"", b"../x", A[:-1].encode(), b"\xff" * 64, b"a" * 10_000])
def test_damaged_pointer_is_refused(root: Path, content: bytes) -> None:
    (root / "champion").write_bytes(content)
    with pytest.raises(BundleError):
        read_pointer(root, "champion")


@pytest.mark.parametrize("content", [b"abc", b"", b"\xff" * 64, b"a" * 10_000])
@pytest.mark.parametrize("promoted", [B, C])
def test_promoting_repairs_a_damaged_pointer_and_says_so(
    root: Path, content: bytes, promoted: str, caplog: pytest.LogCaptureFixture
) -> None:
    promote(root, A)
    promote(root, B)
    (root / "champion").write_bytes(content)
    promote(root, promoted)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (promoted, A)
    assert "pointer champion is damaged, what it named is unknown" in caplog.text


def test_promoting_over_a_link_replaces_the_link(root: Path) -> None:
    write_pointer(root, "previous", A)
    (root / "champion").symlink_to(root / "previous")
    promote(root, B)
    assert not (root / "champion").is_symlink()
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (B, A)


@pytest.mark.parametrize("previous", [b"abc", A.encode()])
def test_a_previous_of_no_use_goes_with_the_damaged_pointer(root: Path, previous: bytes) -> None:
    (root / "champion").write_bytes(b"abc")
    (root / "previous").write_bytes(previous)
    promote(root, A)
    assert (read_pointer(root, "champion"), read_pointer(root, "previous")) == (A, None)
    with pytest.raises(BundleError, match="no earlier champion"):
        rollback(root)


def test_a_damaged_challenger_is_replaced(root: Path) -> None:
    promote(root, A)
    (root / "challenger").write_bytes(b"abc")
    set_challenger(root, B)
    assert read_pointer(root, CHALLENGER) == B


def test_linked_pointer_is_refused(root: Path) -> None:
    write_pointer(root, "previous", A)
    (root / "champion").symlink_to(root / "previous")
    with pytest.raises(BundleError, match="link"):
        read_pointer(root, "champion")


def test_other_names_are_refused(root: Path) -> None:
    for name in ("candidate", "../champion"):
        with pytest.raises(BundleError, match="not known"):
            write_pointer(root, name, A)


def test_challenger_is_never_the_champion(root: Path) -> None:
    promote(root, A)
    set_challenger(root, B)
    assert read_pointer(root, CHALLENGER) == B
    set_challenger(root, A)
    assert read_pointer(root, CHALLENGER) is None
    set_challenger(root, B)
    set_challenger(root, None)
    assert read_pointer(root, CHALLENGER) is None
    assert read_pointer(root, "champion") == A
