"""The two-scale prior: log odds of a call, monotone in an account's log distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numba import njit

from market.core.arrays import Floats
from market.core.errors import ModelError
from models.prior.spline_basis import FORECAST_KNOTS, LONG_RUN_KNOTS, check_knots, ramp

DEFAULT_KNOTS = (FORECAST_KNOTS, LONG_RUN_KNOTS)
"""Knots of the forecast distance and of the long-run distance."""

LARGEST = 1e4
"""Largest absolute intercept or weight: beyond it log odds lose the digits that parity needs."""

MOST_DISTANCES = 8
MOST_KNOTS = 64


@dataclass(frozen=True, slots=True)
class SplinePrior:
    """Log odds of a call within one horizon, from D log distances x.

    ``f(x) = a + sum_d sum_j w_dj R_dj(x_d)`` with the ramps R of
    `models.prior.spline_basis` and all ``w <= 0``: more headroom never raises it, by
    construction and to the last bit.

    Attributes
    ----------
    intercept:
        a, log odds.
    knots:
        Of each distance, D lists of J_d log distances.
    weights:
        Of each distance, D lists of J_d numbers, none above 0.

    Raises
    ------
    ModelError
        The parts do not fit together, a weight is positive, or a number is not finite.
    """

    intercept: float
    knots: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.knots) <= MOST_DISTANCES or len(self.weights) != len(self.knots):
            raise ModelError(
                f"spline prior has knots of {len(self.knots)} and weights of {len(self.weights)} "
                f"distances; give both for each of 1 to {MOST_DISTANCES}"
            )
        for knots, weights in zip(self.knots, self.weights, strict=True):
            check_knots(knots)
            if len(weights) != len(knots) or len(knots) > MOST_KNOTS:
                raise ModelError(
                    f"spline prior has {len(weights)} weights for {len(knots)} knots; give one "
                    f"each, at most {MOST_KNOTS}"
                )
        numbers = np.array([self.intercept, *(w for weights in self.weights for w in weights)])
        if not (np.abs(numbers) <= LARGEST).all():
            raise ModelError(
                f"spline prior has an intercept or weight beyond ±{LARGEST:g}, or not finite; "
                "fit it again"
            )
        if (numbers[1:] > 0.0).any():
            raise ModelError(
                "spline prior has a positive weight; with it more headroom would raise the "
                "probability, fit it with weights of at most 0"
            )

    @classmethod
    def of_parameters(
        cls, parameters: Floats, knots: Sequence[Sequence[float]] = DEFAULT_KNOTS
    ) -> SplinePrior:
        """From one vector: intercept, then the weights of each distance in turn.

        Column k of the design matrix ``[1, ramps(x_1), ramps(x_2), …]`` belongs to entry k.

        Raises
        ------
        ModelError
            The vector has another length than 1 plus the number of knots, or see the class.
        """
        sizes = [len(one) for one in knots]
        if np.shape(parameters) != (1 + sum(sizes),):
            raise ModelError(
                f"spline prior takes 1 + {sum(sizes)} parameters; got shape {np.shape(parameters)}"
            )
        ends = np.cumsum([1, *sizes])
        return cls(
            float(parameters[0]),
            tuple(tuple(float(knot) for knot in one) for one in knots),
            tuple(
                tuple(float(w) for w in parameters[first:last]) for first, last in pairwise(ends)
            ),
        )

    def score(self, distances: Floats) -> Floats:
        """Log odds, terms added in a fixed order.

        Parameters
        ----------
        distances:
            float64, shape (N, D): log distances in the order of `knots`.

        Returns
        -------
        float64, shape (N,); NaN where a distance is NaN.

        Raises
        ------
        ModelError
            `distances` has another number of columns.
        """
        score = np.full(len(distances), self.intercept)
        for d, column in enumerate(self._columns(distances)):
            _add_ramps(column, np.array(self.knots[d]), np.array(self.weights[d]), score)
        return score

    def shares(self, distances: Floats) -> Floats:
        """What each distance adds to the intercept, shape (N, D); see `score`."""
        parts = np.zeros((len(self.knots), len(distances)))
        for d, column in enumerate(self._columns(distances)):
            _add_ramps(column, np.array(self.knots[d]), np.array(self.weights[d]), parts[d])
        return np.ascontiguousarray(parts.T)

    def _columns(self, distances: Floats) -> list[Floats]:
        if distances.ndim != 2 or distances.shape[1] != len(self.knots):
            raise ModelError(
                f"spline prior reads {len(self.knots)} distances; got shape {distances.shape}"
            )
        return [np.ascontiguousarray(column, dtype=np.float64) for column in distances.T]

    def to_dict(self) -> dict[str, object]:
        """The prior as lists and numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> SplinePrior:
        """Read what `to_dict` wrote; unknown keys and wrong types are refused.

        Raises
        ------
        ModelError
            A key is missing, unknown or of the wrong type, or see the class.
        """
        unknown = sorted(set(data) - set(cls.__slots__))
        if unknown:
            raise ModelError(
                f"spline prior has unknown keys {unknown}; known are {list(cls.__slots__)}"
            )
        try:
            return msgspec.convert(dict(data), cls)
        except msgspec.ValidationError as error:
            raise ModelError(
                f"spline prior is malformed ({error}); export the model again"
            ) from error


@njit(cache=True, error_model="numpy")
def _add_ramps(values, knots, weights, out):  # type: ignore[no-untyped-def]
    for n in range(len(values)):
        total = out[n]
        for j in range(len(knots)):
            total += weights[j] * ramp(values[n], knots, j)
        out[n] = total
