"""Random choices from a passed seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draw:
    """A stream of choices; equal seeds give equal streams.

    Parameters
    ----------
    seed:
        Integers of 0 or more, the address of the stream: campaign, rule set, session.
    """

    def __init__(self, *seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self._rng.random() < probability)

    def below(self, bound: int) -> int:
        """An integer of 0 to `bound` - 1."""
        return int(self._rng.integers(bound))

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return float(self._rng.uniform(low, high))

    def log_between(self, low: float, high: float) -> float:
        """Uniform by its logarithm in [low, high), both above 0."""
        return math.exp(self.between(math.log(low), math.log(high)))

    def normal(self, deviation: float) -> float:
        """Normal with mean 0."""
        return float(self._rng.normal(0.0, deviation))

    def sign(self) -> float:
        """1 or -1."""
        return 1.0 if self.chance(0.5) else -1.0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Some distinct options, at most all of them, in random order."""
        order = self._rng.permutation(len(options))[:count]
        return [options[i] for i in order.tolist()]

    def by_weight(self, options: Sequence[tuple[float, T]]) -> T:
        """One of the options, given with their weights."""
        place = self.between(0.0, math.fsum(weight for weight, _ in options))
        for weight, option in options:
            place -= weight
            if place < 0.0:
                return option
        return options[-1][1]
