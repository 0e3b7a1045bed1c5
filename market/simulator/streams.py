"""Random numbers of the simulated market: one set of streams for the market and for each coin."""

from __future__ import annotations

import numpy as np

from market.core.arrays import Floats

MARKET = 0
"""Position of the market's streams; coin n has position 1 + n."""


class Stream:
    """Random numbers of the market or of one coin.

    Each kind of number has a generator of its own (Philox) and is drawn row by row, so that the
    numbers of a bar depend neither on how many are drawn at once nor on which other kinds are
    drawn at all.
    """

    def __init__(self, seed: int, position: int) -> None:
        def generator(kind: int) -> np.random.Generator:
            entropy = np.random.SeedSequence([seed, kind, position])
            return np.random.Generator(np.random.Philox(entropy))

        self._normal, self._uniform, self._exponential, self._quote = map(generator, range(4))
        self._start = generator(4)

    def start(self, count: int) -> Floats:
        """Normals that place the first state, shape (count,)."""
        return self._start.standard_normal(count)

    def normals(self, bars: int, columns: int) -> Floats:
        """Normals that move prices and volumes, shape (bars, columns)."""
        return self._normal.standard_normal((bars, columns))

    def uniforms(self, bars: int, columns: int) -> Floats:
        """Uniforms that decide jumps and regimes, shape (bars, columns)."""
        return self._uniform.random((bars, columns))

    def exponentials(self, bars: int, columns: int) -> Floats:
        """Exponentials that set highs and lows, shape (bars, columns)."""
        return self._exponential.standard_exponential((bars, columns))

    def quotes(self, bars: int, columns: int) -> Floats:
        """Normals that move spreads, basis, implied volatility and open interest."""
        return self._quote.standard_normal((bars, columns))
