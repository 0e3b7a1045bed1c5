from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from market.core.errors import ModelError
from models.trees.tree_table import (
    Floats,
    TreeTable,
    trees_from_bytes,
    trees_sha256,
    trees_to_bytes,
)

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


def split_table() -> TreeTable:
    """x0 <= 1: 10, else x1 <= 2: 20, else 30; NaN goes left, then right."""
    return TreeTable(
        n_features=2,
        tree_start=np.array([0, 5]),
        feature=np.array([0, -1, 1, -1, -1], np.int32),
        threshold=np.array([1.0, 0.0, 2.0, 0.0, 0.0]),
        left=np.array([1, -1, 3, -1, -1], np.int32),
        right=np.array([2, -1, 4, -1, -1], np.int32),
        default_left=np.array([True, False, False, False, False]),
        value=np.array([18.0, 10.0, 25.0, 20.0, 30.0]),
    )


def test_rows_reach_their_leaves_and_nan_its_default() -> None:
    up = np.nextafter(1.0, 2.0)
    X = np.array([[1.0, 9.0], [up, 2.0], [up, 2.1], [np.nan, 9.0], [up, np.nan]])
    np.testing.assert_array_equal(split_table().raw_score(X), [10, 20, 30, 10, 30])


def test_no_trees_score_zero() -> None:
    table = TreeTable.empty(3)
    assert table.n_trees == 0
    np.testing.assert_array_equal(table.raw_score(np.ones((4, 3))), np.zeros(4))


def test_rows_in_column_order_of_memory_score_alike(small: SmallModel) -> None:
    table = small.trees[8]
    np.testing.assert_array_equal(
        table.raw_score(np.asfortranarray(small.X)), table.raw_score(small.X)
    )


@pytest.mark.parametrize(
    "X", [np.ones((2, 3)), np.ones(2), np.ones((2, 2), np.float32), np.ones((2, 2), np.int64)]
)
def test_wrong_input_is_refused(X: Floats) -> None:
    with pytest.raises(ModelError, match="float64 of shape"):
        split_table().raw_score(X)


@pytest.mark.parametrize(
    ("hazard", "name", "index", "value"),
    [
        ("cycle", "left", 2, 0),
        ("self loop", "left", 2, 2),
        ("child past the end", "right", 2, 5),
        ("shared child", "right", 0, 1),
        ("leaf with a child", "left", 1, 4),
        ("feature out of range", "feature", 2, 2),
        ("negative feature", "feature", 2, -2),
        ("nan threshold", "threshold", 0, np.nan),
        ("infinite leaf", "value", 1, np.inf),
        ("tree that ends early", "tree_start", 1, 4),
        ("tree that starts late", "tree_start", 0, 1),
    ],
)
def test_broken_tree_is_refused(hazard: str, name: str, index: int, value: float) -> None:
    array = getattr(split_table(), name).copy()
    array[index] = value
    with pytest.raises(ModelError):
        replace(split_table(), **{name: array})


def test_wrong_dtype_or_length_is_refused() -> None:
    with pytest.raises(ModelError, match="float64"):
        replace(split_table(), threshold=np.zeros(5, np.float32))
    with pytest.raises(ModelError, match="length"):
        replace(split_table(), value=np.zeros(4))


def test_child_in_another_tree_is_refused() -> None:
    with pytest.raises(ModelError, match="outside its tree"):
        replace(split_table(), tree_start=np.array([0, 2, 5]))


def test_archive_keeps_every_bit(small: SmallModel) -> None:
    trees = {**small.trees, 24: TreeTable.empty(7)}
    data = trees_to_bytes(trees)
    assert data == trees_to_bytes(trees)
    back = trees_from_bytes(data, (1, 8, 24), 7)
    assert {h: trees_sha256(t) for h, t in back.items()} == {
        h: trees_sha256(t) for h, t in trees.items()
    }


def test_archive_of_other_horizons_or_width_is_refused(small: SmallModel) -> None:
    data = trees_to_bytes(small.trees)
    with pytest.raises(ModelError, match="exactly the arrays"):
        trees_from_bytes(data, (1, 8), 7)
    with pytest.raises(ModelError, match="outside the 3 features"):
        trees_from_bytes(data, (1, 8, 24), 3)


def rewrite(data: bytes, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(buffer, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, changes.get(name, old.read(name)))
    return buffer.getvalue()


def npy(array: npt.NDArray[Any], **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_compressed_archive_is_refused() -> None:
    data = rewrite(trees_to_bytes({1: split_table()}), {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="compressed"):
        trees_from_bytes(data, (1,), 2)


@pytest.mark.parametrize(
    "member",
    [
        npy(np.array([None, 1], object), allow_pickle=True),
        npy(np.zeros((5, 1))),
        npy(np.zeros(5, np.float32)),
        npy(np.zeros(10**4)).replace(b"(10000,)", b"(99999,)"),
        npy(np.zeros(5))[:-1],
        b"",
        b"not numpy",
    ],
    ids=["pickle", "matrix", "float32", "size that lies", "cut short", "nothing", "noise"],
)
def test_archive_with_a_bad_array_is_refused(member: bytes) -> None:
    data = rewrite(trees_to_bytes({1: split_table()}), {"h1.threshold.npy": member})
    with pytest.raises(ModelError):
        trees_from_bytes(data, (1,), 2)


def test_archive_is_read_without_parsing_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11's parser fails now and then where two threads load bundles at once."""

    def parse(*_: Any, **__: Any) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    data = trees_to_bytes({1: split_table()})
    monkeypatch.setattr("ast.parse", parse)
    assert trees_sha256(trees_from_bytes(data, (1,), 2)[1]) == trees_sha256(split_table())


def test_damaged_archive_is_refused() -> None:
    data = bytearray(trees_to_bytes({1: split_table()}))
    data[200] ^= 1
    for damaged in (bytes(data), bytes(data[:-40]), b"", b"PK"):
        with pytest.raises(ModelError):
            trees_from_bytes(damaged, (1,), 2)


@pytest.mark.parametrize("name", ["threshold", "value", "default_left"])
def test_hash_changes_with_one_entry(name: str) -> None:
    array = getattr(split_table(), name).copy()
    array[0] = not array[0] if array.dtype == bool else np.nextafter(array[0], np.inf)
    assert trees_sha256(replace(split_table(), **{name: array})) != trees_sha256(split_table())
