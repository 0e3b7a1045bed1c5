"""Trees that go down together reach the nodes that each reaches alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from models.trees.node_table import LEFT, NodeTable, descend_together
from models.trees.tree_table import Floats, TreeTable

WIDTH = 4


def grown(rng: np.random.Generator, trees: int) -> TreeTable:
    """Random trees of at most 31 nodes on few thresholds, so that rows meet them exactly."""
    start, columns = [0], ([], [], [], [], [], [])  # type: ignore[var-annotated]
    feature, threshold, left, right, default_left, value = columns
    for _ in range(trees):
        pending = [(-1, False, 0)]
        while pending:
            parent, is_left, depth = pending.pop(0)
            at = len(feature)
            if parent >= 0:
                (left if is_left else right)[parent] = at
            split = depth < 4 and rng.random() < 0.8
            feature.append(int(rng.integers(WIDTH)) if split else -1)
            threshold.append(float(rng.integers(3)) if split else 0.0)
            default_left.append(bool(split and rng.random() < 0.5))
            value.append(float(rng.standard_normal()))
            left.append(-1)
            right.append(-1)
            if split:
                pending += [(at, True, depth + 1), (at, False, depth + 1)]
        start.append(len(feature))
    return TreeTable(
        WIDTH,
        np.array(start, np.int64),
        np.array(feature, np.int32),
        np.array(threshold),
        np.array(left, np.int32),
        np.array(right, np.int32),
        np.array(default_left, np.bool_),
        np.array(value),
    )


def row(rng: np.random.Generator) -> Floats:
    return rng.choice([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan, np.inf], WIDTH)


@given(st.integers(0, 2**32 - 1))
def test_every_tree_ends_in_the_leaf_that_it_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [grown(rng, count) for count in (3, 0, 7)]
    forest = NodeTable.of(tables)
    assert forest.widest == 7
    for e, table in enumerate(tables):
        x = row(rng)
        at = forest.root[forest.first[e] : forest.first[e + 1]].copy()
        descend_together(forest.number, forest.links, x, x, at, np.empty_like(at))
        assert (forest.links[at, LEFT] == at).all()
        total = 0.0
        for value in forest.number[at, 0].tolist():
            total += value
        assert total == table.raw_score(x[None])[0]


@given(st.integers(0, 2**32 - 1))
def test_two_rows_go_down_to_where_they_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = grown(rng, 6)
    forest = NodeTable.of([table])
    low, high = row(rng), row(rng)
    at = forest.root.copy()
    descend_together(forest.number, forest.links, low, high, at, np.empty_like(at))
    for tree, reached in enumerate(at.tolist()):
        node = int(table.tree_start[tree])
        while table.feature[node] >= 0:
            ways = [
                table.default_left[node] if np.isnan(x) else x <= table.threshold[node]
                for x in (low[table.feature[node]], high[table.feature[node]])
            ]
            if ways[0] != ways[1]:
                break
            node = int(table.left[node] if ways[0] else table.right[node])
        assert node == reached
