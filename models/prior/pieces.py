"""A prior as quadratic pieces: the form that the graph and the search for a level evaluate.

The sum over all ramps costs the same for every row. Between two knots it is one quadratic in each
distance, and beyond the knots a straight line, so a row needs one look-up a distance. The pieces
are written so that they never rise, to the last bit and across the knots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.account.log_distance import LOG_LIMIT
from market.core.arrays import Floats, Ints
from market.core.lean_kernel import lean_kernel
from models.prior.spline_basis import ramps
from models.prior.spline_prior import SplinePrior


class DistancePieces(NamedTuple):
    """What one distance adds, on K intervals of its log distance x.

    On interval k, with ``u`` = x's place in it from 0 to 1: ``(constant + opening (u - 1)^2) +
    closing u^2``, where ``opening >= 0 >= closing``. Both squares move one way as x rises, so the
    value never rises; and the constants are chosen so that no interval begins above the value at
    which the one before ends.

    Attributes
    ----------
    edge:
        Ends of the intervals, shape (K + 1,): −`LOG_LIMIT`, the knots, `LOG_LIMIT`. Beyond the
        outer ones the value stays.
    inverse:
        One over the widths, shape (K,).
    constant, opening, closing:
        Shape (K,). The first distance of a prior carries its intercept.
    """

    edge: Floats
    inverse: Floats
    constant: Floats
    opening: Floats
    closing: Floats


def pieces_of(prior: SplinePrior) -> list[DistancePieces]:
    """The pieces of each distance of a prior; their sum is `SplinePrior.score` but for rounding."""
    return [
        _pieces(prior.knots[d], prior.weights[d], prior.intercept if d == 0 else 0.0)
        for d in range(len(prior.knots))
    ]


def _pieces(knots: Sequence[float], weights: Sequence[float], intercept: float) -> DistancePieces:
    edge = np.array([-LOG_LIMIT, *knots, LOG_LIMIT])
    width = np.diff(edge)
    inner = width[1:-1]
    hat = 0.5 * (np.append(0.0, inner) + np.append(inner, 0.0))  # integrals of the hats
    slope = np.asarray(weights) / hat
    opening = -0.5 * width * np.append(slope[0], slope)
    closing = 0.5 * width * np.append(slope, slope[-1])
    # Minus zero would be a number below its own interval's end.
    opening, closing = opening + 0.0, closing + 0.0
    constant = np.empty(len(width))
    value = intercept + float(ramps(edge[:1], knots)[0] @ np.asarray(weights))
    for k in range(len(width)):
        constant[k] = value - opening[k]
        while constant[k] + opening[k] > value:
            constant[k] = np.nextafter(constant[k], -np.inf)
        value = constant[k] + closing[k]
    return DistancePieces(edge, 1.0 / width, constant, opening, closing)


class PriorPieces(NamedTuple):
    """The pieces of H horizons and D distances in the form of kernels, unused places 0.

    Attributes
    ----------
    column:
        Position of each distance among the columns of a model, shape (H, D). A model whose prior
        is a column of logits has D = 1 and no pieces, one without a prior D = 0.
    intervals:
        Number K of intervals, shape (H, D); 0: the column itself is the score.
    edge, inverse, constant, opening, closing:
        See `DistancePieces`, shape (H, D, most), of `edge` one more.
    """

    column: Ints
    intervals: Ints
    edge: Floats
    inverse: Floats
    constant: Floats
    opening: Floats
    closing: Floats

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]], priors: Sequence[SplinePrior]) -> PriorPieces:
        """From the columns that each horizon's prior reads and, where it is one, its spline."""
        column = np.array(columns, dtype=np.int64).reshape(len(columns), -1)
        pieces = [pieces_of(prior) for prior in priors]
        most = max((len(one.inverse) for parts in pieces for one in parts), default=0)
        intervals = np.zeros(column.shape, dtype=np.int64)
        edge = np.zeros((*column.shape, most + 1))
        numbers = np.zeros((4, *column.shape, most))
        for h, parts in enumerate(pieces):
            for d, one in enumerate(parts):
                k = intervals[h, d] = len(one.inverse)
                edge[h, d, : k + 1] = one.edge
                numbers[:, h, d, :k] = one[1:]
        return cls(column, intervals, edge, *numbers)


@lean_kernel
def distance_share(pieces, h, d, x):  # type: ignore[no-untyped-def]
    """What distance d of horizon h adds to the score at x; NaN for NaN.

    The operations and their order are those of the graph (`models.onnx.spline_graph`).
    """
    count = pieces.intervals[h, d]
    if count == 0 or np.isnan(x):
        return x
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if x <= pieces.edge[h, d, middle + 1]:
            high = middle
        else:
            low = middle + 1
    inverse = pieces.inverse[h, d, low]
    u = min(max((x - pieces.edge[h, d, low]) * inverse, 0.0), 1.0)
    v = min(max((x - pieces.edge[h, d, low + 1]) * inverse, -1.0), 0.0)
    begun = pieces.constant[h, d, low] + (v * v) * pieces.opening[h, d, low]
    return begun + (u * u) * pieces.closing[h, d, low]
