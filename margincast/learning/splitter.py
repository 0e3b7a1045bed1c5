"""Splits in time, purged by the end of the label, as a scikit-learn CV object."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from market.core.errors import ModelError
from training.labels.splits import held_out_window

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


class PurgedTimeSeriesSplit:
    """Walk-forward or held-out blocks of time without shared label windows.

    A row decided at t is labelled by what happens in (t, t + horizon]. The distinct decision times
    are cut into blocks of equal count. A test block holds the rows decided in [start, end); a row
    is trained on if its label ends by start, ``t + horizon ≤ start``, or, without `walk_forward`,
    if it comes at least ``max(embargo, horizon)`` after end. All others are purged.

    Works wherever scikit-learn takes ``cv``: pass the decision times as ``groups``.

    Parameters
    ----------
    n_splits:
        Test blocks, at least 1 (2 without `walk_forward`). Walking forward there is one block more,
        the first, which is only trained on.
    horizon_hours:
        Horizon of the labels, at least 1.
    embargo_hours:
        Hours after a test block that are not trained on; matters without `walk_forward`.
    walk_forward:
        Whether to train on what was known at the start of the block only.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, 7.4.

    Examples
    --------
    >>> import numpy as np
    >>> from margincast import PurgedTimeSeriesSplit
    >>> times = np.arange("2025-01-01", "2025-01-03", dtype="datetime64[h]")
    >>> cv = PurgedTimeSeriesSplit(n_splits=2, horizon_hours=8)
    >>> [(len(train), len(test)) for train, test in cv.split(times, groups=times)]
    [(9, 16), (25, 16)]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        horizon_hours: int = 24,
        embargo_hours: int = 168,
        walk_forward: bool = True,
    ) -> None:
        if n_splits < (1 if walk_forward else 2):
            raise ModelError(f"n_splits is {n_splits}; give at least {1 if walk_forward else 2}")
        self.n_splits = n_splits
        self.horizon_hours = horizon_hours
        self.embargo_hours = embargo_hours
        self.walk_forward = walk_forward

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Row numbers to train on and to test on, of each fold in time order.

        Parameters
        ----------
        X, y:
            Not read.
        groups:
            Decision time of each row: datetimes, or int64 nanoseconds; in any order.

        Raises
        ------
        ModelError
            No times were given, there are too few distinct ones, or a fold has no row to train on.
        """
        times = _nanoseconds(groups)
        distinct = np.unique(times)
        blocks = self.n_splits + self.walk_forward
        if len(distinct) < blocks:
            raise ModelError(
                f"{len(distinct)} distinct decision times cannot be cut into {blocks} blocks; give "
                "more rows or a smaller n_splits"
            )
        edges = [int(distinct[len(distinct) * k // blocks]) for k in range(blocks)]
        edges.append(int(distinct[-1]) + 1)
        for start, end in list(pairwise(edges))[int(self.walk_forward) :]:
            fold = held_out_window(times, start, end, self.horizon_hours, self.embargo_hours)
            train = fold.train & (times < start) if self.walk_forward else fold.train
            if not train.any():
                raise ModelError(
                    f"no row's label of {self.horizon_hours} h ends before the test block of "
                    f"{pd.Timestamp(start)}; give more rows, a smaller n_splits or a shorter "
                    "horizon_hours"
                )
            yield np.flatnonzero(train), np.flatnonzero(fold.held)

    def __repr__(self) -> str:
        return (
            f"PurgedTimeSeriesSplit(n_splits={self.n_splits}, horizon_hours={self.horizon_hours}, "
            f"embargo_hours={self.embargo_hours}, walk_forward={self.walk_forward})"
        )


def _nanoseconds(groups: Any) -> Ints:
    if groups is None:
        raise ModelError("the split needs decision times; give them as groups=")
    if pd.api.types.is_integer_dtype(groups):
        return np.asarray(groups, dtype=np.int64)
    try:
        index = pd.DatetimeIndex(pd.to_datetime(groups, utc=True))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"groups are no decision times ({error}); give datetimes or int64 nanoseconds"
        ) from None
    if index.hasnans:
        raise ModelError("a decision time in groups is missing; leave its row out")
    return np.asarray(index.as_unit("ns").asi8, dtype=np.int64)
