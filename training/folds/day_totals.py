"""Sums by day: all that pooled figures and their bootstrap over days need of evaluated rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from training.evaluation.metrics import clip_probability, log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DayTotals:
    """Sums over the rows of each UTC day, of one horizon.

    Attributes
    ----------
    day:
        Days since 1970-01-01 UTC, rising, shape (D,).
    rows, observed:
        Rows and events, shape (D,).
    losses, predicted:
        Sum of log losses (nats) and of probabilities by model, each of shape (D,).
    """

    day: Ints
    rows: Ints
    observed: Ints
    losses: Mapping[str, Floats]
    predicted: Mapping[str, Floats]

    @classmethod
    def of(
        cls, y: npt.ArrayLike, probabilities: Mapping[str, Floats], day: npt.ArrayLike
    ) -> DayTotals:
        """Sums of rows with outcomes `y` (0 or 1), probabilities by model, and days, each of
        shape (n,); probabilities are clipped as for every log loss.

        Raises
        ------
        ModelError
            Shapes disagree, or a value is NaN.
        """
        days, code = np.unique(np.asarray(day), return_inverse=True)

        def total(values: npt.ArrayLike) -> Floats:
            weights = np.asarray(values, dtype=np.float64)
            return np.bincount(code, weights, minlength=len(days)).astype(np.float64)

        return cls(
            days.astype(np.int64),
            np.bincount(code, minlength=len(days)).astype(np.int64),
            total(y).astype(np.int64),
            {
                name: total(log_loss_rows(y, clip_probability(p)))
                for name, p in probabilities.items()
            },
            {name: total(p) for name, p in probabilities.items()},
        )

    @classmethod
    def pooled(cls, parts: Sequence[DayTotals]) -> DayTotals:
        """Sums over several sets of rows, for the models that all of them have.

        Raises
        ------
        ModelError
            There is nothing to pool, or no model that all have.
        """
        names = [n for n in parts[0].losses if all(n in p.losses for p in parts)] if parts else []
        if not names:
            raise ModelError(
                f"{len(parts)} sets of rows have no model in common; expected at least one set, "
                "and the same baselines in all"
            )
        days, code = np.unique(np.concatenate([p.day for p in parts]), return_inverse=True)

        def total(values: list[npt.NDArray[Any]]) -> Floats:
            weights = np.concatenate(values).astype(np.float64)
            return np.bincount(code, weights, minlength=len(days)).astype(np.float64)

        return cls(
            days,
            total([p.rows for p in parts]).astype(np.int64),
            total([p.observed for p in parts]).astype(np.int64),
            {name: total([p.losses[name] for p in parts]) for name in names},
            {name: total([p.predicted[name] for p in parts]) for name in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; floats keep all their digits."""
        return {
            "day": self.day.tolist(),
            "rows": self.rows.tolist(),
            "observed": self.observed.tolist(),
            "losses": {name: values.tolist() for name, values in self.losses.items()},
            "predicted": {name: values.tolist() for name, values in self.predicted.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DayTotals:
        """What `to_dict` gave, also after a round trip through JSON."""
        day, rows, observed = (
            np.array(content[key], dtype=np.int64) for key in ("day", "rows", "observed")
        )
        losses, predicted = (
            {name: np.array(values, dtype=np.float64) for name, values in content[key].items()}
            for key in ("losses", "predicted")
        )
        return cls(day, rows, observed, losses, predicted)
