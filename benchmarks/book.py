"""A whole book: margins, features, scores and add-ons, on one core and on two.

The peer is the same search by halving alone, with probabilities from LightGBM's
boosters, and from the same ONNX graph, which shows the gain of the initial guess.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from benchmarks.desk import (
    BATCH,
    PROCESSES,
    STAGES,
    Desk,
    ScoreColumns,
    score_on_one_core,
    score_on_two_cores,
    slice_book,
)
from benchmarks.measure import Result
from benchmarks.workloads.sample_book import (
    POSITIONS,
    SCHEMA,
    SYMBOLS,
    TREES,
    sample,
    write_model,
)
from decisions.book_scoring import account_rows
from decisions.decision import decide
from features.account.frame import compute_aggregates, compute_features, set_headroom
from margin.add_on.bounds import ModelLevel, add_on_cap
from margin.add_on.solver import RELATIVE_PRECISION, required_level
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import load_ruleset
from market.accounts.book import Book
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Probability = Callable[[Floats], Floats]
"""Probabilities of rows of features, shape (N, F) to (N, H)."""

ACCOUNTS, PEER_ACCOUNTS, WORDED_ACCOUNTS = 100_000, 2_000, 5_000
RULES = "linear-tiers"


def run() -> Result:
    """Time by stage on one core, in all on two, and beside the peers."""
    ruleset = load_ruleset(RULES)
    data = sample(ACCOUNTS)
    with tempfile.TemporaryDirectory() as folder:
        bundle, boosters = write_model(Path(folder), data, ruleset)
        desk = Desk(data.snapshot, ruleset, Forecaster(load_bundle(Path(folder) / bundle)))
        one_core, stages = score_on_one_core(desk, data.book)
        two_cores, cost = score_on_two_cores(
            data.snapshot, ruleset, Path(folder) / bundle, data.book
        )
    equal = all(
        np.array_equal(one_core[name], two_cores[name], equal_nan=True) for name in one_core
    )
    if not equal:
        raise SystemExit("two processes and one do not give the same bits")
    worded, explained = (desk_seconds(desk, data.book, explain=each) for each in (False, True))
    peers = compare(desk, data.book, boosters)
    total = float(stages.sum())
    names = [f"one_core_{name.replace(' ', '_').replace('-', '_')}_seconds" for name in STAGES]
    return Result(
        "book",
        settings={
            "accounts": len(data.book),
            "positions_per_account": POSITIONS,
            "symbols": SYMBOLS,
            "horizons": len(SCHEMA.horizons),
            "trees_per_horizon": TREES,
            "leaves_per_tree": 15,
            "columns": len(SCHEMA.features),
            "processes": PROCESSES,
            "batch_accounts": BATCH,
            "peer_accounts": PEER_ACCOUNTS,
            "note": "reference-v1 with five coins an account on a simulated market. Two cores: "
            "wall time from the book in one process to all figures back in it. Positive model "
            "add-on: the model asks for more than the rule floor. Worded: whole decisions with "
            "their leading reasons, one core; explained: with all reasons and parts. Peers halve "
            "from the ends, on one core.",
        },
        medians={
            **cost,
            "one_core_seconds": total,
            **dict(zip(names, stages.tolist(), strict=True)),
            "one_core_worded_accounts_per_second": WORDED_ACCOUNTS / worded,
            "one_core_explained_accounts_per_second": WORDED_ACCOUNTS / explained,
        },
        ratios={
            **shares(one_core),
            "one_core_over_two_cores": total / cost["two_cores_seconds"],
            "equal_bits_on_one_and_two_cores": float(equal),
            **peers,
        },
    )


def shares(columns: ScoreColumns) -> dict[str, float]:
    """How much of the book the model moves."""
    level, floor = columns["model_level"], columns["floor"]
    return {
        "share_with_positive_model_add_on": float(np.mean(level > floor)),
        "share_above_the_cap": float(np.mean(np.isinf(level))),
        "share_to_deposit": float(np.mean(columns["deposit"] > 0.0)),
    }


def desk_seconds(desk: Desk, book: Book, *, explain: bool) -> float:
    """Seconds of whole decisions on some accounts, with explanations or without."""
    accounts = slice_book(book, 0, WORDED_ACCOUNTS).accounts()
    names = [account.account_id for account in accounts] if explain else []
    start = time.perf_counter()
    decide(accounts, desk.snapshot, desk.ruleset, desk.model, {}, explain=names)
    return time.perf_counter() - start


def compare(desk: Desk, book: Book, boosters: Sequence[lightgbm.Booster]) -> dict[str, float]:
    """Time of the search by halving over time of ours, and the differences of the levels."""
    sample_slice = slice_book(book, 0, PEER_ACCOUNTS)
    requirement = compute_requirement(sample_slice, desk.snapshot.view(), desk.ruleset)
    rows = account_rows(requirement, np.arange(len(sample_slice)))
    aggregates = compute_aggregates(rows, desk.snapshot.features)
    upper = add_on_cap(requirement.initial_margin, desk.ruleset.add_on)
    targets = desk.ruleset.add_on.targets

    def halve(probability_of: Probability) -> ModelLevel:
        columns = compute_features(aggregates, SCHEMA.features)

        def probability(level: Floats, accounts: Ints) -> Floats:
            rows = columns[accounts]
            set_headroom(aggregates[accounts], rows, SCHEMA.features, level)
            return probability_of(rows)

        return required_level(probability, upper, targets, SCHEMA.horizons)

    def by_lightgbm(X: Floats) -> Floats:
        scores = [
            X[:, column] + np.asarray(booster.predict(X, raw_score=True, num_threads=1))
            for column, booster in zip(SCHEMA.prior_columns(), boosters, strict=True)
        ]
        return np.asarray(np.maximum.accumulate(expit(np.stack(scores, axis=1)), axis=1))

    search, search_seconds = _timed(lambda: desk.model.required_level(aggregates, upper, targets))
    onnx, onnx_seconds = _timed(lambda: halve(desk.model.probability))
    peer, peer_seconds = _timed(lambda: halve(by_lightgbm))
    return {
        "lightgbm_halving_over_search": peer_seconds / search_seconds,
        "onnx_halving_over_search": onnx_seconds / search_seconds,
        "largest_difference_from_lightgbm_in_precisions": _level_difference(search, peer, upper),
        "largest_difference_from_onnx_in_precisions": _level_difference(search, onnx, upper),
    }


def _level_difference(search: ModelLevel, other: ModelLevel, upper: Floats) -> float:
    """Largest difference of two searches, in units of the precision they promise."""
    if not np.array_equal(np.isinf(search.by_horizon), np.isinf(other.by_horizon)):
        return float("inf")
    finite = np.isfinite(search.by_horizon)
    gap = np.where(finite, search.by_horizon, 0.0) - np.where(finite, other.by_horizon, 0.0)
    return float((np.abs(gap) / (RELATIVE_PRECISION * upper[:, None])).max())


def _timed(job: Callable[[], ModelLevel]) -> tuple[ModelLevel, float]:
    start = time.perf_counter()
    result = job()
    return result, time.perf_counter() - start
