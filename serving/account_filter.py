"""Which accounts of the live book a page is of: conditions as masks over all accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decisions.errors import RequestError
from market.core.arrays import Bools
from market.core.identity_cache import IdentityCache
from monitoring.evaluation.view import EvaluatedBook
from serving.recorded_decisions import check_account_id

_FOLDED = IdentityCache[npt.NDArray[Any]](2)
"""Ids of a book without case, by the tuple of its names."""

_SHOWN = 128
"""Characters of an impossible search that an error repeats."""


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Conditions on accounts; None: any.

    Attributes
    ----------
    search:
        A part of the id, in small or capital letters.
    in_sync:
        Whether no update of the account is missing.
    suspect:
        Whether prices that wait for confirmation drive it.
    problem:
        Whether it has no figures.
    least_probability:
        Least probability of the longest horizon, 0 to 1; accounts without a forecast are left out.
    """

    search: str | None = None
    in_sync: bool | None = None
    suspect: bool | None = None
    problem: bool | None = None
    least_probability: float | None = None

    def check(self) -> None:
        """Refuse impossible conditions; raises `RequestError`."""
        if self.search is not None:
            try:
                check_account_id(self.search)
            except RequestError:
                raise RequestError(
                    f"search is {self.search[:_SHOWN]!r}; give a part of an account id, without "
                    "control characters"
                ) from None
        least = self.least_probability
        if least is not None and not 0.0 <= least <= 1.0:
            raise RequestError(f"least_probability is {least}; give 0 to 1")

    def matching(self, book: EvaluatedBook) -> Bools | None:
        """Which accounts of a book meet every condition, shape (N,); None: all of them."""
        masks: list[Bools] = []
        if self.search is not None:
            masks.append(_holding(book.state.names, self.search))
        if self.in_sync is not None:
            masks.append(_out_of_sync(book) != self.in_sync)
        if self.suspect is not None:
            masks.append(book.columns.suspect_drives == self.suspect)
        if self.problem is not None:
            has_problem = np.zeros(len(book.state), dtype=np.bool_)
            has_problem[list(book.columns.problems)] = True
            masks.append(has_problem == self.problem)
        if self.least_probability is not None:
            masks.append(_at_least(book, self.least_probability))
        return np.logical_and.reduce(masks) if masks else None


def _holding(names: tuple[str, ...], part: str) -> Bools:
    """Names that hold a part, whatever the case of their letters."""

    def folded() -> npt.NDArray[Any]:
        return np.array([name.casefold() for name in names], dtype=np.dtypes.StringDType())

    known = _FOLDED.get((names,), folded)
    found: Bools = np.strings.find(known, part.casefold()) >= 0
    return found


def _out_of_sync(book: EvaluatedBook) -> Bools:
    parts = [segment.out_of_sync for segment in book.cut.segments]
    return np.concatenate([*parts, np.zeros(0, dtype=np.bool_)])


def _at_least(book: EvaluatedBook, least: float) -> Bools:
    probability = book.state.levels.probability
    if not probability.shape[1]:
        return np.zeros(len(book.state), dtype=np.bool_)
    reached: Bools = probability[:, -1] >= np.float32(least)
    return reached
