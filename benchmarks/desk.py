"""Scoring of whole books: the same batches on one core and, in two processes, on two.

Its processes import what serving imports, and nothing that trains.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import process_peak_megabytes
from decisions.book_scoring import DecisionBasis, score_book
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

Floats = npt.NDArray[np.float64]
ScoreColumns = dict[str, npt.NDArray[Any]]

BATCH, PROCESSES = 5_000, 2
STAGES = ("margined", "featured", "scored", "given add-ons")
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Desk:
    """Market, rules and model that decide on accounts."""

    snapshot: MarketSnapshot
    ruleset: RuleSet
    model: Forecaster

    def score(self, book: Book) -> tuple[ScoreColumns, Floats]:
        """Results of a batch, shape (accounts, ...) each, and seconds by stage."""
        laps = [time.perf_counter()]
        basis = DecisionBasis(self.snapshot, self.ruleset, self.model, {})
        scores = score_book(book, basis, on_stage=lambda _: laps.append(time.perf_counter()))
        columns: ScoreColumns = {
            "level": scores.add_on.level,
            "binding": scores.add_on.binding,
            "floor": scores.add_on.floor,
            "model_level": scores.forecast.level.level,
            "by_horizon": scores.forecast.level.by_horizon,
            "probability": scores.forecast.probability,
            "deposit": scores.deposit,
            "headroom": scores.requirement.headroom,
        }
        return columns, np.diff(laps)


def score_on_one_core(desk: Desk, book: Book) -> tuple[ScoreColumns, Floats]:
    """Results of the whole book and seconds by stage."""
    desk.score(slice_book(book, 0, 50))  # compiles
    parts = [desk.score(batch) for batch in batches(book)]
    return concatenate_columns([columns for columns, _ in parts]), np.sum(
        [seconds for _, seconds in parts], axis=0
    )


def score_on_two_cores(
    snapshot: MarketSnapshot, ruleset: RuleSet, bundle: Path, book: Book
) -> tuple[ScoreColumns, dict[str, float]]:
    """Results of the whole book, and their cost.

    Wall time runs from the book in this process to all results back in it; processor time is
    that of both workers, which other processes do not lengthen; memory is the larger peak.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES + 1)
    worker = (snapshot, ruleset, bundle, slice_book(book, 0, 50), ready)
    with ProcessPoolExecutor(PROCESSES, context, _open_desk, worker) as pool:
        for _ in range(PROCESSES):  # a worker starts with a task that no other is free for
            pool.submit(_peak_megabytes, 0.0)
        ready.wait(_START_SECONDS)
        start = time.perf_counter()
        parts = list(pool.map(_score, batches(book)))
        columns = concatenate_columns([columns for columns, _ in parts])
        elapsed = time.perf_counter() - start
        peak = max(pool.map(_peak_megabytes, [0.2] * PROCESSES))
    return columns, {
        "two_cores_seconds": elapsed,
        "two_cores_processor_seconds": sum(seconds for _, seconds in parts),
        "two_cores_accounts_per_second": len(book) / elapsed,
        "two_cores_peak_megabytes_per_process": peak,
    }


def batches(book: Book) -> list[Book]:
    """The book in parts of `BATCH` accounts."""
    ends = range(0, len(book), BATCH)
    return [slice_book(book, first, min(first + BATCH, len(book))) for first in ends]


def concatenate_columns(parts: Sequence[ScoreColumns]) -> ScoreColumns:
    """Results of parts of a book as those of the whole."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def slice_book(book: Book, first: int, last: int) -> Book:
    """Consecutive accounts as a book."""
    legs = slice(int(book.leg_start[first]), int(book.leg_start[last]))
    balances = slice(int(book.balance_start[first]), int(book.balance_start[last]))
    return Book(
        account_ids=book.account_ids[first:last],
        cash=book.cash[first:last],
        leg_start=book.leg_start[first : last + 1] - legs.start,
        leg_instrument=book.leg_instrument[legs],
        leg_quantity=book.leg_quantity[legs],
        leg_entry_price=book.leg_entry_price[legs],
        balance_start=book.balance_start[first : last + 1] - balances.start,
        balance_asset=book.balance_asset[balances],
        balance_amount=book.balance_amount[balances],
    )


_desk: Desk


def _open_desk(
    snapshot: MarketSnapshot, ruleset: RuleSet, bundle: Path, warm_up: Book, ready: Barrier
) -> None:
    """Make a worker ready: load its bundle, compile kernels, wait for the others."""
    global _desk
    _desk = Desk(snapshot, ruleset, Forecaster(load_bundle(bundle)))
    _desk.score(warm_up)
    ready.wait(_START_SECONDS)


def _score(book: Book) -> tuple[ScoreColumns, float]:
    start = time.process_time()
    columns, _ = _desk.score(book)
    return columns, time.process_time() - start


def _peak_megabytes(wait_seconds: float) -> float:
    """Peak memory of this worker; the wait gives each worker one call."""
    time.sleep(wait_seconds)
    return process_peak_megabytes()
