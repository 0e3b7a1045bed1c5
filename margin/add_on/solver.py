"""The solver of the add-on: the smallest level at which the model tolerates an account.

The model is evaluated for accounts with an open bracket only, at the initial guess first where
there is one. The result rests on the model's probabilities alone: a bad guess costs evaluations,
never accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numba import njit

from margin.add_on.bounds import ModelLevel
from market.core.arrays import Floats, Ints
from market.core.errors import ModelError

RELATIVE_PRECISION = 2.0**-32
"""The solver stops when a bracket is this share of the highest level."""

_GALLOP = 16.0
"""Factor from each step away from a wrong guess to the next."""


def required_level(
    probability: Callable[[Floats, Ints], Floats],
    upper: Floats,
    p_star: Mapping[int, float],
    horizons: Sequence[int],
    guess: Floats | None = None,
    iterations: int = 64,
) -> ModelLevel:
    """Smallest level at which the model tolerates each account.

    ``G_h = min {a in [0, upper] : p_h(a) <= p*_h}`` and ``G = max_h G_h``, where p falls with
    the level a. The upper end of the last bracket is returned, where ``p_h(G_h) <= p*_h`` was
    evaluated; at its lower end, at most `RELATIVE_PRECISION` of `upper` below, ``p_h > p*_h`` was,
    unless G_h is 0. Every evaluation narrows the brackets of all horizons. Each account's brackets
    depend on its own probabilities only: alone or in a book, its level is the same to the last bit.

    Without a guess: level 0, `upper`, then halving. With one: the guess, then a point half the
    precision to its other side, which ends the search where the guess was good; else points
    sixteen times as far each, until halving is the shorter way.

    Parameters
    ----------
    probability:
        From levels, shape (R,), and the index of the account of each, shape (R,), the
        probabilities of a call, shape (R, H), when the equity of each account is set so that its
        headroom is the level.
    upper:
        Highest level of interest, at least 0, shape (N,). NaN gives NaN.
    p_star:
        Highest tolerated probability by targeted horizon in hours.
    horizons:
        Hours of the columns of `probability`, length H.
    guess:
        Where G_h is expected, shape (N, K) for the K targeted horizons, rising; `upper` or more
        where no level is expected to suffice, NaN where there is no guess.
    iterations:
        Evaluations at most, for each account and targeted horizon. The default suffices for every
        guess.

    Raises
    ------
    ModelError
        A targeted horizon is not among `horizons`, or an array has another shape.

    References
    ----------
    Brent (1973), "Algorithms for Minimization without Derivatives", ch. 3 (bisection); Bentley
    and Yao (1976), "An almost optimal algorithm for unbounded searching" (galloping).
    """
    search = _BracketSearch(probability, upper, p_star, horizons, guess)
    for k in range(len(search.targets)):
        search.narrow(k, iterations)
    by_horizon = np.where(search.broken[:, None], np.nan, search.high)
    level = by_horizon.max(axis=1, initial=0.0)
    return ModelLevel(search.targets, by_horizon, level)


def target_horizons(p_star: Mapping[int, float], horizons: Sequence[int]) -> tuple[int, ...]:
    """Horizons with a tolerated probability, rising; raises `ModelError` where one is missing."""
    missing = sorted(set(p_star) - set(horizons))
    if missing:
        raise ModelError(
            f"the rule set targets horizons {missing} h and the model has "
            f"{list(horizons)} h; retrain with them or drop them from add_on.p_star"
        )
    return tuple(sorted(p_star))


class _BracketSearch:
    """Brackets of every account and targeted horizon, narrowed by each evaluation of the model.

    ``high`` suffices (infinite: no sufficient level is known), ``low`` does not (minus infinity:
    none is known that does not).
    """

    def __init__(
        self,
        probability: Callable[[Floats, Ints], Floats],
        upper: Floats,
        p_star: Mapping[int, float],
        horizons: Sequence[int],
        guess: Floats | None,
    ) -> None:
        self.targets = target_horizons(p_star, horizons)
        self.broken = ~(np.isfinite(upper) & (upper >= 0))
        self.low = np.full((len(upper), len(self.targets)), -np.inf)
        self.high = np.full_like(self.low, np.inf)
        self._probability = probability
        self._columns = [list(horizons).index(hours) for hours in self.targets]
        self._tolerated = np.array([p_star[hours] for hours in self.targets])
        self._width = len(horizons)
        self._upper = np.where(self.broken, 0.0, upper)
        if guess is None:
            guess = np.full_like(self.low, np.nan)
        elif guess.shape != self.low.shape:
            raise ModelError(
                f"the guess has shape {guess.shape}; expected a level for each account and "
                f"targeted horizon, {self.low.shape}"
            )
        self._guess = np.clip(guess, 0.0, self._upper[:, None])

    def narrow(self, k: int, iterations: int) -> None:
        """Narrow the brackets of one horizon until they are closed."""
        steps = np.zeros(len(self.broken), dtype=np.int64)
        for _ in range(iterations):
            level = _next_levels(
                self.low[:, k], self.high[:, k], self._guess[:, k], self._upper, self.broken, steps
            )
            rows = np.flatnonzero(~np.isnan(level))
            if not len(rows):
                return
            self._evaluate(level[rows], rows)

    def _evaluate(self, level: Floats, rows: Ints) -> None:
        probability = np.asarray(self._probability(level, rows), dtype=np.float64)
        if probability.shape != (len(rows), self._width):
            raise ModelError(
                f"the model returned an array of shape {probability.shape}; expected "
                f"{(len(rows), self._width)}"
            )
        self.broken[rows] |= np.isnan(probability).any(axis=1)
        enough = probability[:, self._columns] <= self._tolerated
        low, high = self.low[rows], self.high[rows]
        at = np.broadcast_to(level[:, None], enough.shape)
        inside = (low < at) & (at < high)
        self.high[rows] = np.where(inside & enough, at, high)
        self.low[rows] = np.where(inside & ~enough, at, low)


@njit(cache=True, error_model="numpy")
def _next_levels(low, high, guess, upper, broken, steps):  # type: ignore[no-untyped-def]
    """The next level to evaluate of each account, NaN where its bracket is closed; counts steps."""
    out = np.full(len(low), np.nan)
    for i in range(len(low)):
        if broken[i]:
            continue
        tolerance = RELATIVE_PRECISION * upper[i]
        # Nothing suffices, everything does, or the bracket is narrow enough.
        if low[i] >= upper[i] or high[i] <= 0.0 or high[i] - low[i] <= tolerance:
            continue
        if low[i] < guess[i] < high[i]:
            out[i] = guess[i]
            continue
        if low[i] < 0.0:
            out[i] = 0.0
        elif high[i] == np.inf:
            out[i] = upper[i]
        else:
            out[i] = low[i] + 0.5 * (high[i] - low[i])
            if not low[i] < out[i] < high[i]:  # neighbouring floats
                out[i] = np.nan
        if math.isnan(guess[i]):
            continue
        step = 0.5 * tolerance * _GALLOP ** steps[i]
        near = high[i] - step if guess[i] >= high[i] else low[i] + step
        inside = max(low[i], 0.0) < near < min(high[i], upper[i])
        if inside and step < 0.5 * (high[i] - low[i]):
            out[i] = near
            steps[i] += 1
    return out
