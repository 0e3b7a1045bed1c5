"""Trees of several ensembles with each node in a few consecutive bytes, and walks through them.

`models.trees.tree_table.TreeTable` keeps an array for each field, which is what is stored, hashed
and checked. A walk looks at all fields of few nodes; here they share a cache line. A walk down one
tree waits for memory at every node and guesses wrong where it turns and ends. So all trees go down
together, a level at a time, and the next node is computed, not branched to: the walks of different
trees do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats, Ints
from market.core.lean_kernel import lean_kernel
from models.trees.tree_table import TreeTable

RIGHT, LEFT, _FEATURE, _DEFAULT_LEFT = 2, 3, 4, 5
_BYTES = 24


class NodeTable(NamedTuple):
    """The trees of H ensembles, one after the other.

    Attributes
    ----------
    number:
        Threshold of a split, value of a leaf, in column 0, shape (M, 3).
    links:
        The same memory as int32, shape (M, 6): in columns `RIGHT` and `LEFT` the children, of a
        leaf the leaf itself, then the feature, 0 for a leaf, and 1 where NaN goes left. The first
        two are the number.
    root:
        Of each tree, shape (T,).
    first:
        ``root[first[e]:first[e + 1]]`` are those of ensemble e, shape (H + 1,).
    widest:
        Trees of the largest ensemble.
    """

    number: Floats
    links: npt.NDArray[np.int32]
    root: Ints
    first: Ints
    widest: int

    @classmethod
    def of(cls, tables: Sequence[TreeTable]) -> NodeTable:
        """The trees of some ensembles, in the order given."""
        before = np.cumsum([0, *(len(table.feature) for table in tables)])
        number = np.zeros((before[-1], _BYTES // 8))
        links = number.view(np.int32)
        for table, at in zip(tables, before.tolist(), strict=False):
            leaf, itself = table.feature < 0, np.arange(len(table.feature))
            own = slice(at, at + len(table.feature))
            number[own, 0] = np.where(leaf, table.value, table.threshold)
            links[own, LEFT] = np.where(leaf, itself, table.left) + at
            links[own, RIGHT] = np.where(leaf, itself, table.right) + at
            links[own, _FEATURE] = np.maximum(table.feature, 0)
            links[own, _DEFAULT_LEFT] = table.default_left
        roots = [t.tree_start[:-1] + at for t, at in zip(tables, before.tolist(), strict=False)]
        count = [table.n_trees for table in tables]
        return cls(
            number,
            links,
            np.concatenate([*roots, np.zeros(0, dtype=np.int64)]),
            np.cumsum([0, *count]).astype(np.int64),
            max(count, default=0),
        )


@lean_kernel
def feature_of(links, at):  # type: ignore[no-untyped-def]
    """Column that a node splits on."""
    return np.int64(links[at, _FEATURE])


@lean_kernel
def next_node(number, links, at, x):  # type: ignore[no-untyped-def]
    """The node after `at` for a value of its column."""
    goes_left = np.int64(x <= number[at, 0]) | (
        np.int64(x != x) & np.int64(links[at, _DEFAULT_LEFT])
    )
    return np.int64(links[at, RIGHT + goes_left])


@lean_kernel
def descend_together(number, links, low, high, at, active):  # type: ignore[no-untyped-def]
    """Take each tree down as long as two rows go the same way: to the node where they part, or to
    a leaf.

    Parameters
    ----------
    number, links:
        Of a `NodeTable`.
    low, high:
        The rows, shape (F,).
    at:
        Node of each tree, shape (T,); moved.
    active:
        Room for T indices.
    """
    left = np.int64(len(at))
    for t in range(left):
        active[t] = t
    while left > 0:  # children stand behind their parents, so that this ends
        still = np.int64(0)
        for j in range(left):
            t = active[j]
            here = at[t]
            f = feature_of(links, here)
            following = next_node(number, links, here, low[f])
            other = next_node(number, links, here, high[f])
            moved = np.int64(following == other) * (following - here)
            at[t] = here + moved
            active[still] = t
            still += np.int64(moved != 0)
        left = still
