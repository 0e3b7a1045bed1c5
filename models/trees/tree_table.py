"""Gradient boosted trees as flat arrays: the form that is scored, explained and hashed."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from market.core.errors import ModelError

Floats = npt.NDArray[np.float64]

_DAMAGE = (zipfile.BadZipFile, NotImplementedError)
"""What zipfile raises on damaged members."""

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<descr>[<|][a-z]\d)', 'fortran_order': False, "
    rb"'shape': \((?P<length>\d{1,10}),\), \} *\n",
    re.DOTALL,
)
"""The header of one row in the npy format, version 1.0.

numpy's reader parses it as a Python literal, which fails now and then in Python 3.11 when two
threads parse at once (CPython issue 106905); bundles are loaded in threads.
"""

_DTYPES: dict[str, np.dtype[Any]] = {
    "tree_start": np.dtype("<i8"),
    "feature": np.dtype("<i4"),
    "threshold": np.dtype("<f8"),
    "left": np.dtype("<i4"),
    "right": np.dtype("<i4"),
    "default_left": np.dtype("?"),
    "value": np.dtype("<f8"),
}
MAX_NODES = 50_000_000


class TreeArrays(NamedTuple):
    """The arrays of a `TreeTable`, in a form that kernels take."""

    tree_start: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    default_left: npt.NDArray[np.bool_]
    value: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TreeTable:
    """The trees of one horizon, node by node; no tree at all is a valid ensemble.

    A row goes left where ``x <= threshold``; NaN goes left where `default_left` says so. The raw
    score is the sum of the reached leaves, tree by tree in order, in float64.

    Attributes
    ----------
    n_features:
        Width F of the input.
    tree_start:
        int64, shape (T + 1,): tree i owns nodes ``tree_start[i]`` to ``tree_start[i + 1] - 1``
        and its root comes first.
    feature:
        int32, shape (M,): column that the node splits on, -1 for a leaf.
    threshold:
        float64, shape (M,), finite; 0 for a leaf.
    left, right:
        int32, shape (M,): absolute index of the child, always greater than the node's own;
        -1 for a leaf.
    default_left:
        bool, shape (M,): where NaN goes; False for a leaf.
    value:
        float64, shape (M,), finite: score of a leaf; for a split the mean score of what passes
        it, which `models.trees.contributions` reads.

    Raises
    ------
    ModelError
        The arrays do not describe proper trees.

    References
    ----------
    Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree".
    """

    n_features: int
    tree_start: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    default_left: npt.NDArray[np.bool_]
    value: Floats

    def __post_init__(self) -> None:
        _check_table(self)

    @property
    def arrays(self) -> TreeArrays:
        """The arrays for kernels."""
        return TreeArrays(*(getattr(self, name) for name in TreeArrays._fields))

    @property
    def n_trees(self) -> int:
        """Number of trees T."""
        return len(self.tree_start) - 1

    @classmethod
    def empty(cls, n_features: int) -> TreeTable:
        """An ensemble without trees, whose raw score is 0."""
        arrays = {name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()}
        arrays["tree_start"] = np.zeros(1, np.int64)
        return cls(n_features, **arrays)

    def raw_score(self, X: Floats) -> Floats:
        """Sum of the leaves that each row reaches.

        Parameters
        ----------
        X:
            float64, shape (N, F); NaN follows `default_left`, infinities compare as numbers.

        Returns
        -------
        float64, shape (N,), in log odds; zeros without trees.

        Raises
        ------
        ModelError
            X is not float64 of shape (N, F).
        """
        rows = as_rows(X, self.n_features)
        score = np.zeros(len(rows))
        _raw_score(rows, self.arrays, score)
        return score


def as_rows(X: Floats, n_features: int) -> Floats:
    """X as C-contiguous rows; raises `ModelError` unless it is float64 of shape (N, F)."""
    if X.dtype != np.float64 or X.ndim != 2 or X.shape[1] != n_features:
        raise ModelError(
            f"input is {X.dtype} of shape {X.shape}; expected float64 of shape (N, {n_features}), "
            "its columns in the order of the schema"
        )
    return np.ascontiguousarray(X)


@njit(cache=True, error_model="numpy")
def goes_left(trees, node, x):  # type: ignore[no-untyped-def]
    """Whether a value passes a split of `trees`, `TreeArrays`, to the left."""
    return trees.default_left[node] if np.isnan(x) else x <= trees.threshold[node]


@njit(cache=True)
def _raw_score(X, trees, score):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        total = 0.0
        for tree in range(len(trees.tree_start) - 1):
            node = trees.tree_start[tree]
            while trees.feature[node] >= 0:
                left = goes_left(trees, node, X[i, trees.feature[node]])
                node = np.int64(trees.left[node] if left else trees.right[node])
            total += trees.value[node]
        score[i] = total


def _check_table(table: TreeTable) -> None:
    for name, dtype in _DTYPES.items():
        array = getattr(table, name)
        if array.dtype != dtype or array.ndim != 1:
            raise ModelError(
                f"tree array {name} is {array.dtype} with {array.ndim} dimensions; expected "
                f"{dtype} with one"
            )
    nodes = len(table.feature)
    start = table.tree_start
    if any(len(getattr(table, name)) != nodes for name in _DTYPES if name != "tree_start"):
        raise ModelError("tree arrays differ in length; each needs one entry a node")
    if len(start) < 1 or start[0] != 0 or start[-1] != nodes or (np.diff(start) < 1).any():
        raise ModelError(
            f"tree_start must rise strictly from 0 to the number of nodes, {nodes}; each tree "
            "owns at least one node"
        )
    if table.n_features < 1 or (nodes and table.feature.max() >= table.n_features):
        raise ModelError(f"a tree splits on a column outside the {table.n_features} features")
    if nodes and table.feature.min() < -1:
        raise ModelError("a tree node has a feature under -1; -1 alone marks a leaf")
    if not (np.isfinite(table.threshold).all() and np.isfinite(table.value).all()):
        raise ModelError("a tree has a threshold or value that is not finite; train the model anew")
    _check_links(table)


def _check_links(table: TreeTable) -> None:
    """Every node but a root has exactly one parent, before it and in its own tree: no cycles."""
    nodes = len(table.feature)
    start = table.tree_start
    node = np.arange(nodes)
    split = table.feature >= 0
    tree_end = np.repeat(start[1:], np.diff(start))
    for child in (table.left, table.right):
        inside = (child > node) & (child < tree_end)
        if not np.where(split, inside, child == -1).all():
            raise ModelError(
                "a tree node has a child outside its tree or before itself, or a leaf has one"
            )
    parents = np.bincount(table.left[split], minlength=nodes)
    parents += np.bincount(table.right[split], minlength=nodes)
    expected = np.ones(nodes, np.int64)
    expected[start[:-1]] = 0
    if (parents != expected).any():
        raise ModelError("a tree node has no parent or more than one; the trees are not trees")


def trees_sha256(table: TreeTable) -> str:
    """SHA-256 over names, lengths and little-endian contents of the arrays.

    Hashes the numbers, never a file: LightGBM promises no stable text across versions.
    """
    digest = hashlib.sha256(f"n_features={table.n_features}".encode())
    for name, dtype in _DTYPES.items():
        array = getattr(table, name)
        digest.update(f"|{name}:{dtype.str}:{len(array)}|".encode())
        digest.update(array.astype(dtype, copy=False).tobytes())
    return digest.hexdigest()


def trees_to_bytes(trees: Mapping[int, TreeTable]) -> bytes:
    """One ``trees.npz`` for all horizons; equal trees give equal bytes."""
    arrays = {
        f"h{horizon}.{field.name}": np.asarray(getattr(table, field.name))
        for horizon, table in sorted(trees.items())
        for field in fields(table)
        if field.name in _DTYPES
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def trees_from_bytes(data: bytes, horizons: Sequence[int], n_features: int) -> dict[int, TreeTable]:
    """Read what `trees_to_bytes` wrote, checking every array before it is used.

    The archive is read by hand and not by `numpy.load`, which trusts the sizes that a file claims.

    Raises
    ------
    ModelError
        The archive is damaged, compressed, lacks an array or has one too many, or an array does
        not describe proper trees.
    """
    expected = {f"h{horizon}.{name}.npy" for horizon in horizons for name in _DTYPES}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) != len(expected) or {m.filename for m in members} != expected:
                raise ModelError(
                    f"tree archive does not hold exactly the arrays of horizons {list(horizons)}; "
                    "export the model again"
                )
            if any(m.compress_type != zipfile.ZIP_STORED for m in members):
                raise ModelError("tree archive is compressed; it must be stored plainly")
            return {
                horizon: TreeTable(
                    n_features,
                    **{
                        name: _array(archive.read(f"h{horizon}.{name}.npy"), dtype)
                        for name, dtype in _DTYPES.items()
                    },
                )
                for horizon in horizons
            }
    except (ValueError, EOFError, OSError, TypeError, *_DAMAGE) as error:
        raise ModelError(f"tree archive is damaged ({error}); export the model again") from error


def _array(member: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    header = _HEADER.match(member)
    if header is None:
        raise ModelError("tree array has no header of one row of numbers")
    stored, length = header["descr"].decode("ascii"), int(header["length"])
    if stored != dtype.str or length > MAX_NODES:
        raise ModelError(f"tree array has {length} entries of {stored}; expected {dtype.str}")
    size = len(member) - header.end()
    if length * dtype.itemsize != size:
        raise ModelError(f"tree array claims {length} entries but has {size} bytes")
    return np.frombuffer(member, dtype, offset=header.end()).copy()
