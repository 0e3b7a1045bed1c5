"""Block permutation: the distribution of an effect when the blocks of two spans are exchanged.

Weeks that follow each other are alike: volatility comes in regimes that last for weeks. Exchanging
single weeks would break these regimes up and make the spread of chance too small. So blocks are
exchanged in runs of neighbours, as they come in time: the longer the runs, the more of the
dependence survives, and the fewer different exchanges exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Effect = Callable[[Floats, Floats], Floats]
"""Sums of reference and current with any leading axes to effects of these axes."""

PERMUTATIONS = 4999
LONGEST_RUN = 4
"""Blocks that are exchanged together, at most: four weeks."""

_TIES = 1e-12


def longest_run(reference: int, current: int, tests: int, level: float, n: int) -> int:
    """Longest run, up to `LONGEST_RUN`, at which one of many tests can still be significant.

    Known from the numbers alone, so that choosing it costs nothing. 1 where even single blocks
    cannot prove anything.

    Parameters
    ----------
    reference, current:
        Blocks of each side.
    tests, level:
        Tests that Holm's correction counts, and its level.
    n:
        Exchanges drawn.
    """
    for run in range(min(LONGEST_RUN, current), 1, -1):
        if tests * smallest_p(reference, current, run, n) <= level:
            return run
    return 1


def smallest_p(reference: int, current: int, run: int, n: int) -> float:
    """No p-value is expected to be smaller, however large the effect.

    An exchange calls the same blocks current as they are in time, one stretch of them, in k of
    ``(R + C) · comb(R + k - 1, k - 1)`` cases for k runs: the stretch begins with any run, and in
    whatever order the runs lie in it, a shorter one included, it is the same.
    """
    k, blocks = len(_run_lengths(current, run)), reference + current
    return max(1.0 / (n + 1), k / (blocks * math.comb(reference + k - 1, k - 1)))


class Exchanges:
    """Random exchanges between R reference blocks and C current ones, the same for every statistic.

    All R + C blocks lie on a circle in the order of time. An exchange calls C of them current: runs
    of `run` neighbours (the last may be shorter) at random places without overlap.

    Parameters
    ----------
    reference, current:
        Numbers of blocks.
    run:
        Neighbours that stay together; 1 for any C blocks.
    n:
        Exchanges drawn.
    seed:
        Of the draws.

    Raises
    ------
    ModelError
        A side has no block, the run is not within the current blocks, or there is no exchange.

    References
    ----------
    Politis and Romano (1992), "A circular block-resampling procedure for stationary data".
    """

    def __init__(
        self, reference: int, current: int, run: int = 1, n: int = PERMUTATIONS, *, seed: int
    ) -> None:
        if reference < 1 or current < 1 or n < 1 or not 1 <= run <= current:
            raise ModelError(
                f"{n} exchanges of {reference} reference and {current} current blocks in runs of "
                f"{run} were asked for; expected at least one of each, and runs no longer than "
                "the current blocks"
            )
        self.run = run
        self.smallest_p = smallest_p(reference, current, run, n)
        rng = np.random.default_rng(seed)
        lengths = np.array(_run_lengths(current, run), dtype=np.int64)
        k, blocks = len(lengths), reference + current
        # Gaps between runs: a uniform composition of the reference blocks into k parts.
        bars = np.sort(rng.random((n, reference + k - 1)).argsort(axis=1)[:, : k - 1], axis=1)
        edges = np.concatenate(
            [np.full((n, 1), -1), bars, np.full((n, 1), reference + k - 1)], axis=1
        )
        gaps = np.diff(edges, axis=1) - 1
        order = lengths[rng.random((n, k)).argsort(axis=1)]
        starts = np.cumsum(gaps + order, axis=1) - order + rng.integers(0, blocks, (n, 1))
        self._membership = np.zeros((n, blocks))
        rows = np.arange(n)[:, None]
        for step in range(run):
            inside = step < order
            places = (starts + step) % blocks
            self._membership[np.broadcast_to(rows, places.shape)[inside], places[inside]] = 1.0

    def p_value(self, reference: Floats, current: Floats, effect: Effect) -> tuple[float, float]:
        """The effect between the spans and the share of exchanges with at least as large a one.

        ``p = (1 + #{exchanged effect ≥ effect}) / (n + 1)``: exact at every level where runs of
        blocks are exchangeable. An exchange whose effect is undefined counts as large.

        Parameters
        ----------
        reference, current:
            Sums of the blocks in the order of time, shapes (R, K) and (C, K).
        effect:
            From sums of both sides; large is far apart.

        Returns
        -------
        The effect, NaN where undefined, and p (1 where the effect is undefined).

        References
        ----------
        Phipson and Smyth (2010), "Permutation p-values should never be zero"; Good (2005),
        Permutation, Parametric and Bootstrap Tests of Hypotheses, 3.
        """
        blocks = np.concatenate([reference, current])
        total = blocks.sum(axis=0)
        observed = float(effect(reference.sum(axis=0), current.sum(axis=0)))
        if math.isnan(observed):
            return observed, 1.0
        exchanged = self._membership @ blocks
        drawn = effect(total - exchanged, exchanged)
        large = np.isnan(drawn) | (drawn >= observed - _TIES * max(1.0, abs(observed)))
        return observed, float((1 + np.count_nonzero(large)) / (len(drawn) + 1))


def _run_lengths(current: int, run: int) -> list[int]:
    whole, rest = divmod(current, run)
    return [run] * whole + ([rest] if rest else [])
