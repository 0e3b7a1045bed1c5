"""The solver of the add-on: the smallest level at which the model tolerates an account.

The model is evaluated for accounts with an open bracket only, at the initial guess first where
there is one. The result rests on the model's probabilities alone: a bad guess costs evaluations,
never accuracy. What a good guess is decided by is evaluated in one call for all horizons; the
search then takes the answers in its own order, so that the level does not depend on which others
were evaluated with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from margin.add_on.bounds import ModelLevel
from market.core.arrays import Bools, Floats, Ints
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
    targets = target_horizons(p_star, horizons)
    shape = (len(upper), len(targets))
    if guess is None:
        guess = np.full(shape, np.nan)
    elif guess.shape != shape:
        raise ModelError(
            f"the guess has shape {guess.shape}; expected a level for each account and "
            f"targeted horizon, {shape}"
        )
    limits = _Limits(
        np.array([horizons.index(hours) for hours in targets], dtype=np.int64),
        np.array([p_star[hours] for hours in targets], dtype=np.float64),
        iterations,
    )
    search, level, account, start = _begin(
        np.asarray(upper, dtype=np.float64), np.asarray(guess, dtype=np.float64)
    )
    for _ in range(1 + iterations * len(targets)):  # each one brings every open account further
        answers = np.empty((0, len(horizons)))
        if len(level):
            answers = _evaluate(probability, level, account, len(horizons))
        level, account = _advance(search, limits, level, start, answers)
        if not len(level):
            break
        start = np.searchsorted(account, np.arange(len(upper) + 1))
    by_horizon = np.where(search.broken[:, None], np.nan, search.high)
    highest = by_horizon.max(axis=1, initial=0.0)
    return ModelLevel(targets, by_horizon, highest)


def _evaluate(
    probability: Callable[[Floats, Ints], Floats], level: Floats, account: Ints, horizons: int
) -> Floats:
    answers = np.ascontiguousarray(probability(level, account), dtype=np.float64)
    if answers.shape != (len(account), horizons):
        raise ModelError(
            f"the model returned an array of shape {answers.shape}; expected "
            f"{(len(account), horizons)}"
        )
    return answers


def target_horizons(p_star: Mapping[int, float], horizons: Sequence[int]) -> tuple[int, ...]:
    """Horizons with a tolerated probability, rising; raises `ModelError` where one is missing."""
    missing = sorted(set(p_star) - set(horizons))
    if missing:
        raise ModelError(
            f"the rule set targets horizons {missing} h and the model has "
            f"{list(horizons)} h; retrain with them or drop them from add_on.p_star"
        )
    return tuple(sorted(p_star))


class _Search(NamedTuple):
    """State of the search for N accounts and K targeted horizons.

    Attributes
    ----------
    low, high:
        Brackets, shape (N, K): `high` suffices (infinite: no sufficient level is known), `low`
        does not (minus infinity: none is known that does not).
    guess:
        Within [0, upper], NaN without one, shape (N, K).
    upper:
        Shape (N,); 0 of an account that is broken.
    broken:
        Whether `upper` or a probability of the account is not a number, shape (N,).
    horizon:
        Which horizon the account is at, K once it is done, shape (N,).
    evaluations, steps:
        Of the account at each horizon, and steps away from a wrong guess among them, shape (N, K).
    """

    low: Floats
    high: Floats
    guess: Floats
    upper: Floats
    broken: Bools
    horizon: Ints
    evaluations: Ints
    steps: Ints


class _Limits(NamedTuple):
    """Of K targeted horizons: their columns among the model's, and what is tolerated there."""

    column: Ints
    tolerated: Floats
    iterations: int


@njit(cache=True, error_model="numpy")
def _begin(upper, guess):  # type: ignore[no-untyped-def]
    """The search before any answer, and the levels that a good guess is decided by.

    These are of each horizon the guess and the point half the precision below it, each level
    once; without a guess level 0 for the first horizon. Returns the search, the levels (R,), the
    account of each, and the offsets of the accounts (N + 1,).
    """
    accounts, horizons = guess.shape
    search = _Search(
        np.full((accounts, horizons), -np.inf),
        np.full((accounts, horizons), np.inf),
        np.full((accounts, horizons), np.nan),
        np.zeros(accounts),
        np.zeros(accounts, dtype=np.bool_),
        np.zeros(accounts, dtype=np.int64),
        np.zeros((accounts, horizons), dtype=np.int64),
        np.zeros((accounts, horizons), dtype=np.int64),
    )
    level = np.empty(accounts * (2 * horizons + 1))
    account = np.empty(len(level), dtype=np.int64)
    start = np.zeros(accounts + 1, dtype=np.int64)
    count = 0
    for i in range(accounts):
        begin, highest = count, upper[i]
        search.broken[i] = not (np.isfinite(highest) and highest >= 0.0)
        if not search.broken[i]:
            search.upper[i] = highest
            for k in range(horizons):
                if math.isnan(guess[i, k]):
                    if k == 0:
                        count = _add_once(level, begin, count, 0.0)
                    continue
                within = min(max(guess[i, k], 0.0), highest)
                search.guess[i, k] = within
                count = _add_once(level, begin, count, within)
                below = within - 0.5 * (RELATIVE_PRECISION * highest)
                if 0.0 < below < within < highest:
                    count = _add_once(level, begin, count, below)
        account[begin:count] = i
        start[i + 1] = count
    return search, level[:count], account[:count], start


@njit(cache=True)
def _add_once(levels, begin, end, level):  # type: ignore[no-untyped-def]
    for j in range(begin, end):
        if levels[j] == level:
            return end
    levels[end] = level
    return end + 1


@njit(cache=True, error_model="numpy")
def _advance(search, limits, level, start, probability):  # type: ignore[no-untyped-def]
    """Take each account through its search as far as the answers reach.

    `probability`, shape (R, H), are the model's answers at `level`; account i may use those from
    ``start[i]`` to ``start[i + 1] - 1``. Returns the next level of every account that needs
    another answer, and the account of each.
    """
    accounts, horizons = search.low.shape
    further, owner = np.empty(accounts), np.empty(accounts, dtype=np.int64)
    count = 0
    for i in range(accounts):
        while search.horizon[i] < horizons and not search.broken[i]:
            k = search.horizon[i]
            following, stepped = _next_level(
                search.low[i, k],
                search.high[i, k],
                search.guess[i, k],
                search.upper[i],
                search.steps[i, k],
            )
            if math.isnan(following) or search.evaluations[i, k] >= limits.iterations:
                search.horizon[i] += 1
                continue
            answer = -1
            for j in range(start[i], start[i + 1]):
                if level[j] == following:
                    answer = j
            if answer < 0:
                further[count], owner[count] = following, i
                count += 1
                break
            search.evaluations[i, k] += 1
            search.steps[i, k] += stepped
            _narrow(search, limits, i, following, probability[answer])
    return further[:count], owner[:count]


@njit(cache=True, error_model="numpy")
def _narrow(search, limits, i, level, probability):  # type: ignore[no-untyped-def]
    """Narrow all brackets of an account by the answer at a level."""
    for h in range(len(probability)):
        if math.isnan(probability[h]):
            search.broken[i] = True
    for k in range(len(limits.column)):
        if search.low[i, k] < level < search.high[i, k]:
            if probability[limits.column[k]] <= limits.tolerated[k]:
                search.high[i, k] = level
            else:
                search.low[i, k] = level


@njit(cache=True, error_model="numpy")
def _next_level(low, high, guess, upper, steps):  # type: ignore[no-untyped-def]
    """The next level to evaluate, NaN where the bracket is closed, and 1 for a step off a guess."""
    tolerance = RELATIVE_PRECISION * upper
    # Nothing suffices, everything does, or the bracket is narrow enough.
    if low >= upper or high <= 0.0 or high - low <= tolerance:
        return np.nan, 0
    if low < guess < high:
        return guess, 0
    if low < 0.0:
        level = 0.0
    elif high == np.inf:
        level = upper
    else:
        level = low + 0.5 * (high - low)
        if not low < level < high:  # neighbouring floats
            level = np.nan
    if math.isnan(guess):
        return level, 0
    step = 0.5 * tolerance * _GALLOP**steps
    near = high - step if guess >= high else low + step
    inside = max(low, 0.0) < near < min(high, upper)
    if inside and step < 0.5 * (high - low):
        return near, 1
    return level, 0
