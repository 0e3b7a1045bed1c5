"""Add-on levels of the accounts of a live book, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.add_on.bounds import BINDINGS
from market.core.arrays import Bools, Floats, Ints
from monitoring.evaluation.record.column_codec import Columns

Codes = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.float32]

NO_BINDING = -1
"""In place of a code of `margin.add_on.bounds.BINDINGS` where an account was not scored."""

UNKNOWN = -1
"""In place of a time or a sequence number that is not known."""

FAMILIES = ("floor", "model", "cap", "fallback")
"""What binds a level in the end: pace and dead-band are ways in which the model's level counts."""


@dataclass(frozen=True, slots=True)
class LevelColumns:
    """The level of each of N accounts that the model pass last set.

    Attributes
    ----------
    amount:
        Level above maintenance margin, settlement currency, shape (N,); NaN where none was set.
    as_of:
        When it was decided, nanoseconds, shape (N,); `UNKNOWN` without one.
    initial_margin:
        Initial margin at the last good prices then, shape (N,).
    carried:
        Whether the passes since were fallbacks, which set no level, shape (N,).
    sequence:
        Sequence number of the account whose positions it was decided on, shape (N,); `UNKNOWN`
        where it was taken from a decision on positions that are not of the live book.
    binding:
        Code of what bound the level in the newest pass, shape (N,); `NO_BINDING` where the account
        had a problem or was not scored yet.
    probability:
        Probabilities of the newest pass rounded to float32, shape (N, H); NaN without a forecast.
    """

    amount: Floats
    as_of: Ints
    initial_margin: Floats
    carried: Bools
    sequence: Ints
    binding: Codes
    probability: Probabilities

    def __len__(self) -> int:
        return len(self.amount)

    @classmethod
    def none(cls, count: int, horizons: int) -> LevelColumns:
        """Accounts without a level."""
        unknown = np.full((2, count), UNKNOWN, dtype=np.int64)
        return cls(
            np.full(count, np.nan),
            unknown[0],
            np.full(count, np.nan),
            np.zeros(count, dtype=np.bool_),
            unknown[1],
            np.full(count, NO_BINDING, dtype=np.int8),
            np.full((count, horizons), np.nan, dtype=np.float32),
        )

    @classmethod
    def of(cls, columns: Mapping[str, npt.NDArray[Any]]) -> LevelColumns:
        """The columns of a recorded block."""
        return cls(**{field.name: columns[field.name] for field in fields(cls)})

    def columns(self) -> Columns:
        """Every column by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, rows: Ints) -> LevelColumns:
        """The levels of some of the accounts."""
        return LevelColumns(**{name: column[rows] for name, column in self.columns().items()})

    def put(self, rows: Ints, other: LevelColumns) -> LevelColumns:
        """These levels with others in the place of some rows; nothing is changed.

        A block with other horizons leaves no probability of the others: they are of another model.
        """
        before = self
        if other.probability.shape[1] != self.probability.shape[1]:
            blank = LevelColumns.none(len(self), other.probability.shape[1]).probability
            before = LevelColumns.of({**self.columns(), "probability": blank})
        merged: dict[str, npt.NDArray[Any]] = {}
        for name, column in before.columns().items():
            merged[name] = column.copy()
            merged[name][rows] = getattr(other, name)
        return LevelColumns.of(merged)

    def grown(self, count: int) -> LevelColumns:
        """The same with accounts without a level behind them, `count` in all."""
        if count <= len(self):
            return self
        rest = LevelColumns.none(count - len(self), self.probability.shape[1]).columns()
        parts = {name: np.concatenate([c, rest[name]]) for name, c in self.columns().items()}
        return LevelColumns.of(parts)


def binding_family(binding: Codes) -> Codes:
    """Index into `FAMILIES` of each code, shape (N,); `NO_BINDING` stays."""
    model = FAMILIES.index("model")
    family = np.array(
        [FAMILIES.index(name) if name in FAMILIES else model for name in BINDINGS], dtype=np.int8
    )
    known: Codes = np.where(binding == NO_BINDING, np.int8(NO_BINDING), family[binding])
    return known


def concatenate_levels(parts: list[LevelColumns]) -> LevelColumns:
    """Levels of parts of a book as those of the whole; at least one part."""
    return LevelColumns.of(
        {name: np.concatenate([getattr(p, name) for p in parts]) for name in parts[0].columns()}
    )
