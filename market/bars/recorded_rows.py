"""Rows that the ledger records beside the files: posted bars, references, exogenous series.

A bar that was posted fills what the files lack. One that was corrected goes before that of the
files, which may still hold it as it was first posted. Where the files hold another price than a
bar that was merely posted, the files stay: they were settled later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from market.bars.panel import CLOSE, EXOGENOUS_WIDTH, BarPanel
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import Interval


@dataclass(frozen=True, slots=True)
class RecordedRows:
    """What is recorded of n rows of a grid with S symbols.

    Attributes
    ----------
    opens:
        Of the rows, rising, int64, shape (n,).
    bars:
        The bars that counted, as posted, before the outlier filter, shape (n, S, 5); NaN where
        there is none.
    corrected:
        Where the bar goes before that of the files, shape (n, S).
    exogenous:
        Exogenous series of the rows by quotes, shape (n, S, 7), see `BarPanel.exogenous`; go before
        those of the files. NaN where nothing was quoted.
    references:
        Quoted marks near the close, which the outlier filter holds bars against, shape (n, S, 2).
    """

    opens: Ints
    bars: Floats
    corrected: Bools
    exogenous: Floats
    references: Floats

    def extend(self, grid: Ints, interval: Interval) -> Ints:
        """The grid through the last of these rows."""
        step, last = interval.nanoseconds, int(self.opens[-1])
        more = np.arange(int(grid[-1]) + step, last + step, step, dtype=np.int64)
        return np.concatenate([grid, more]) if len(more) else grid

    def merge(self, values: Floats, grid: Ints) -> RecordedUse:
        """Put the bars into those of the files, shape (T, S, 5), in place."""
        at = self._places(grid)
        files = values[at]
        there, known = ~np.isnan(self.bars[:, :, CLOSE]), ~np.isnan(files[:, :, CLOSE])
        same = there & known & (files == self.bars).all(axis=2)
        replaced, filled = there & known & self.corrected & ~same, there & ~known
        values[at] = np.where((replaced | filled)[:, :, None], self.bars, files)
        changed = (replaced | filled).any(axis=1)
        for part in (self.exogenous, self.references):
            changed |= ~np.isnan(part).all(axis=(1, 2))
        rows, columns = np.nonzero(filled | replaced | same)
        return RecordedUse(
            filled=int(filled.sum()),
            replaced=int(replaced.sum()),
            differing=int((there & ~same & ~replaced & ~filled).sum()),
            first_change=int(self.opens[changed][0]) if changed.any() else None,
            places=frozenset(zip(self.opens[rows].tolist(), columns.tolist(), strict=True)),
        )

    def with_references(self, others: Floats | None, grid: Ints) -> Floats | None:
        """References of the files, shape (T, S, K), and these beside them; None without any."""
        if np.isnan(self.references).all():
            return others
        own = np.full((len(grid), *self.references.shape[1:]), np.nan)
        own[self._places(grid)] = self.references
        return own if others is None else np.concatenate([others, own], axis=2)

    def with_exogenous(self, panel: BarPanel) -> BarPanel:
        """A panel with the series that quotes gave before its own; the same panel without any."""
        if np.isnan(self.exogenous).all():
            return panel
        shape = (len(panel), len(panel.symbols), EXOGENOUS_WIDTH)
        context = np.full(shape, np.nan) if panel.exogenous is None else panel.exogenous.copy()
        at = self._places(panel.opens)
        context[at] = np.where(np.isnan(self.exogenous), context[at], self.exogenous)
        return replace(panel, exogenous=context)

    def _places(self, grid: Ints) -> npt.NDArray[np.intp]:
        return np.searchsorted(grid, self.opens)


@dataclass(frozen=True, slots=True)
class RecordedUse:
    """What became of recorded bars beside those of the files.

    Attributes
    ----------
    filled, replaced:
        Bars that the files lack, and those that a correction went before.
    differing:
        Bars that were posted and are otherwise in the files, which stayed.
    first_change:
        Open of the oldest row that is not that of the files alone; None where all are.
    places:
        Open and column of each bar that is in the history as recorded.
    """

    filled: int
    replaced: int
    differing: int
    first_change: int | None
    places: frozenset[tuple[int, int]]


RecordedSource = Callable[[Sequence[str], Interval, Ints], RecordedRows | None]
"""Recorded rows of these symbols from the first row of a grid on; None where there are none."""
