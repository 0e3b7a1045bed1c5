"""A spline prior as nodes of a graph: look-ups by small trees, then two squares a distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from market.core.arrays import Floats
from models.bundle.schema import ModelSchema
from models.onnx.graph import GraphParts
from models.onnx.scorer import INPUT
from models.prior.pieces import DistancePieces, pieces_of
from models.prior.score import Priors
from models.trees.tree_table import TreeTable


def add_spline_prior(graph: GraphParts, schema: ModelSchema, priors: Priors, output: str) -> str:
    """Add the prior of every horizon, `output` double [N, H], in float64 throughout.

    A tree with one leaf an interval looks up each number of `models.prior.pieces.DistancePieces`;
    alone in its column of the ensemble it gives that number exactly. With ``u`` clipped to [0, 1]
    and ``v`` to [−1, 0], the places of x from the interval's left and right end, each distance adds
    ``(constant + opening v^2) + closing u^2``. The operations are few and their order is fixed, so
    a row has the same bits in every batch, and more headroom never raises the prior in any bit.

    Parameters
    ----------
    graph:
        Takes the nodes.
    schema, priors:
        Of the model, with `prior_distances`.
    output:
        Name of the result.

    Returns
    -------
    `output`.
    """
    columns = np.array(schema.prior_inputs()).T.ravel()  # distance by distance, P = D x H
    by_horizon = [pieces_of(priors[horizon]) for horizon in schema.horizons]
    pieces = [parts[d] for d in range(len(schema.prior_distances[0])) for parts in by_horizon]
    width, horizons = len(columns), len(schema.horizons)

    def look_up(numbers: Sequence[Floats], name: str, first: int) -> str:
        return graph.columns("looked_up", range(first, first + len(numbers)), name)

    lefts, rights = [-one.edge[:-1] for one in pieces], [-one.edge[1:] for one in pieces]
    inverses, constants = [one.inverse for one in pieces], [one.constant for one in pieces]
    closings, openings = [one.closing for one in pieces], [one.opening for one in pieces]
    groups = {
        "shift": [*lefts, *rights],
        "inverse": [*inverses, *inverses],
        "coefficient": [*closings, *openings],
        "constant": constants,
    }
    tables = [
        _step_tree(len(schema.features), int(columns[k % width]), pieces[k % width], values)
        for numbers in groups.values()
        for k, values in enumerate(numbers)
    ]
    graph.ensemble(tables, "looked_up")
    first = 0
    for name, numbers in groups.items():
        look_up(numbers, name, first)
        first += len(numbers)

    x = graph.columns(INPUT, np.tile(columns, 2), "distance")
    x = graph.add("Add", [x, "shift"], "from_end")
    x = graph.add("Mul", [x, "inverse"], "place")
    low = graph.constant("lowest_place", np.repeat([0.0, -1.0], width)[None])
    high = graph.constant("highest_place", np.repeat([1.0, 0.0], width)[None])
    x = graph.add("Max", [x, low], "from_lowest")
    x = graph.add("Min", [x, high], "clipped")
    x = graph.add("Mul", [x, x], "square")
    x = graph.add("Mul", [x, "coefficient"], "part")
    closing = graph.columns(x, range(width), "closing")
    opening = graph.columns(x, range(width, 2 * width), "opening")
    share = graph.add("Add", ["constant", opening], "begun")
    share = graph.add("Add", [share, closing], "share")
    parts = [
        graph.columns(share, range(start, start + horizons), f"share_{start // horizons}")
        for start in range(0, width, horizons)
    ]
    total = parts[0]
    for d, part in enumerate(parts[1:], start=1):
        total = graph.add("Add", [total, part], f"shares_to_{d}")
    return graph.add("Identity", [total], output)


def _step_tree(n_features: int, column: int, pieces: DistancePieces, values: Floats) -> TreeTable:
    """A tree that gives the value of the interval in which a column lies, as even as it can be."""
    feature: list[int] = []
    threshold: list[float] = []
    children: list[tuple[int, int]] = []
    leaf: list[float] = []

    def grow(first: int, last: int) -> int:
        node = len(feature)
        middle = (first + last) // 2
        is_leaf = first == last
        feature.append(-1 if is_leaf else column)
        threshold.append(0.0 if is_leaf else float(pieces.edge[middle + 1]))
        leaf.append(float(values[first]) if is_leaf else 0.0)
        children.append((-1, -1))
        if not is_leaf:
            children[node] = (grow(first, middle), grow(middle + 1, last))
        return node

    grow(0, len(values) - 1)
    left, right = np.array(children, dtype=np.int32).T
    return TreeTable(
        n_features,
        tree_start=np.array([0, len(feature)], dtype=np.int64),
        feature=np.array(feature, dtype=np.int32),
        threshold=np.array(threshold),
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        default_left=np.zeros(len(feature), dtype=np.bool_),
        value=np.array(leaf),
    )
