"""Block permutation: how large would the effect be if the blocks of two spans were exchanged?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from market.errors import ModelError

Floats = npt.NDArray[np.float64]
Effect = Callable[[Floats, Floats], Floats]
"""Sums of reference and current with any leading axes to effects of these axes."""

PERMUTATIONS = 4999
_TIES = 1e-12


class Exchanges:
    """Random exchanges between R reference blocks and C current ones, the same for every statistic.

    Parameters
    ----------
    reference, current:
        Numbers of blocks.
    n:
        Exchanges drawn.
    seed:
        Of the draws.

    Raises
    ------
    ModelError
        A side has no block, or no exchange is asked for.
    """

    def __init__(self, reference: int, current: int, n: int = PERMUTATIONS, *, seed: int) -> None:
        if reference < 1 or current < 1 or n < 1:
            raise ModelError(
                f"{n} exchanges of {reference} reference and {current} current blocks were asked "
                "for; expected at least one of each"
            )
        order = np.random.default_rng(seed).random((n, reference + current)).argsort(axis=1)
        self._chosen = (order < current).astype(np.float64)
        self.smallest_p = max(1.0 / (n + 1), 1.0 / math.comb(reference + current, current))
        """No p-value can be smaller, however large the effect."""

    def p_value(self, reference: Floats, current: Floats, effect: Effect) -> tuple[float, float]:
        """The effect between the spans and the share of exchanges with at least as large a one.

        ``p = (1 + #{exchanged effect ≥ effect}) / (n + 1)``: exact at every level where blocks are
        exchangeable. An exchange whose effect is undefined counts as large.

        Parameters
        ----------
        reference, current:
            Sums of the blocks, shapes (R, K) and (C, K).
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
        moved = self._chosen @ blocks
        drawn = effect(total - moved, moved)
        large = np.isnan(drawn) | (drawn >= observed - _TIES * max(1.0, abs(observed)))
        return observed, float((1 + np.count_nonzero(large)) / (len(drawn) + 1))


def holm_adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: reject what is at most the level to keep the family's error there.

    References
    ----------
    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted: dict[str, float] = {}
    running = 0.0
    for k, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (len(p_values) - k) * p))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}
