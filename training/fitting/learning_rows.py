"""The rows that a training learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats
from market.core.errors import ModelError
from training.labels.dataset import Dataset
from training.labels.splits import Block

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class LearningRows:
    """The weighted rows of the fit and calibrate blocks.

    Attributes
    ----------
    data:
        The data set.
    rows:
        Rows of it with a weight above 0, in their order, shape (N,).
    fit, calibrate:
        Places of the rows of each block among `rows`.
    """

    data: Dataset
    rows: Rows
    fit: Rows
    calibrate: Rows

    @classmethod
    def of_block(cls, data: Dataset, block: npt.NDArray[np.int8]) -> LearningRows:
        """The rows of a split; `block` has the code of each row of the data set."""
        learnt = (block == Block.FIT) | (block == Block.CALIBRATE)
        rows = np.flatnonzero(learnt & (data.weight > 0.0))
        return cls(
            data,
            rows,
            np.flatnonzero(block[rows] == Block.FIT),
            np.flatnonzero(block[rows] == Block.CALIBRATE),
        )

    @property
    def weight(self) -> Floats:
        """Weight of each row, shape (N,)."""
        return self.data.weight[self.rows]

    def labels(self, horizon: int) -> npt.NDArray[np.int8]:
        """Outcomes within a horizon in hours, shape (N,).

        Raises
        ------
        ModelError
            One of the blocks has no breach or nothing but breaches.
        """
        y: npt.NDArray[np.int8] = self.data.labels[self.rows, self.data.horizons.index(horizon)]
        for name, part in (("fit", self.fit), ("calibrate", self.calibrate)):
            breaches = int(y[part].sum())
            if not 0 < breaches < len(part):
                raise ModelError(
                    f"the {name} block has {breaches} breaches within {horizon} h in {len(part)} "
                    "rows; widen the span or raise [training] max_rows"
                )
        return y
