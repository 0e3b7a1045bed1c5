"""The data set: features, labels and baseline inputs of chosen account-times."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from features.account.aggregates import PRIOR_VOLATILITY
from features.account.frame import AccountRows, compute_aggregates, compute_features
from features.registry import ACCOUNT_COLUMNS, prior_distances
from margin.book.book_paths import book_paths
from margin.engines.equity_paths import Extremes
from margin.rules.ruleset import RuleSet
from market.core.errors import DataError
from training.fitting.oracle import (
    first_passage_probability,
    oracle_first_passage,
    realised_squares,
)
from training.labels.account_panel import value_rows
from training.labels.book_intervals import BookIntervals
from training.labels.breach_labels import Holding, LabelRules, Outcomes, breach_labels
from training.labels.events import Event, event_level
from training.labels.funding_path import FundedPaths, paid_funding
from training.labels.in_order import in_order
from training.labels.market_path import LabelMarket
from training.labels.sampling import Draws
from training.labels.splits import Block

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Samples = Literal["uniform", "training", "both"]

CHUNK = 200_000
"""Account-times at once wherever each takes more memory than its figures."""

_AT_ONCE = 50_000
"""Account-times whose features are computed at once; a few such parts are under way."""

_UNIFORM_PART = 0.5
"""Size of the uniform draw where it is made beside the other one, as a part of what a uniform draw
of `max_rows` would be. Nearly all of it belongs to the other draw too."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """N account-times, sorted by time and account.

    Attributes
    ----------
    time:
        Decision times in nanoseconds, shape (N,).
    account:
        Index into `account_ids`, shape (N,).
    account_ids:
        All accounts.
    features:
        Shape (N, F), columns `feature_names`.
    labels:
        1 where the account breaches within the horizon, else 0; int8, shape (N, H).
    horizons:
        In hours, length H.
    columns:
        Each of shape (N,). What the features and baselines were computed from: ``headroom`` (over
        the level of the event) and ``maintenance_margin`` in the settlement currency,
        ``prior_volatility`` as in `features.account.aggregates`. What the baselines need:
        ``margin_ratio``,
        ``lagged_breach_rate``, ``first_passage_<h>`` and, where it can be computed,
        ``oracle_first_passage_<h>``.
    dropped:
        Account-times left out, by reason; see `training.labels.breach_labels`.
    considered:
        Account-times in the span before any was left out.
    oracle_interval:
        Bar interval of the realised volatility in the oracle.
    weight:
        Weight of the account-time in training, the inverse of the chance with which it was drawn;
        0 where it is only evaluated on. Shape (N,).
    uniform:
        Whether the account-time belongs to the uniform draw that models are evaluated on, which
        has no weights; bool, shape (N,).
    """

    time: Ints
    account: Ints
    account_ids: tuple[str, ...]
    features: Floats
    labels: npt.NDArray[np.int8]
    horizons: tuple[int, ...]
    columns: dict[str, Floats]
    dropped: dict[str, int]
    considered: int
    oracle_interval: str
    weight: Floats
    uniform: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns of `features`, see `feature_columns`."""
        return feature_columns(self.horizons)

    def take(self, rows: Ints | npt.NDArray[np.intp]) -> Dataset:
        """Some rows, in the order given."""
        return replace(
            self,
            time=self.time[rows],
            account=self.account[rows],
            features=self.features[rows],
            labels=self.labels[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
            weight=self.weight[rows],
            uniform=self.uniform[rows],
        )

    def learning_block(self, block: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The blocks of a split without the rows that have no part in them.

        Fit and calibrate rows without a weight and test rows outside the uniform draw become
        `training.labels.splits.Block.PURGED`; shape (N,).
        """
        has_part = np.where(block == Block.TEST, self.uniform, self.weight > 0.0)
        return np.where(has_part, block, np.int8(Block.PURGED))

    def base_rate(self, rows: Ints | npt.NDArray[np.intp], hours: int) -> float:
        """Weighted share of breaches among training rows within a horizon."""
        y = self.labels[rows, self.horizons.index(hours)]
        return float(np.average(y, weights=self.weight[rows]))

    def sha256(self) -> str:
        """SHA-256 over the content in its sorted order."""
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.time).data)
        names = np.array([name.encode() for name in self.account_ids], dtype=np.bytes_)
        for start in range(0, len(self), CHUNK):
            rows = slice(start, start + CHUNK)
            digest.update(np.ascontiguousarray(names[self.account[rows]]).data)
            digest.update(np.ascontiguousarray(self.features[rows]).data)
            digest.update(np.ascontiguousarray(self.labels[rows]).data)
            digest.update(np.ascontiguousarray(self.weight[rows]).data)
            digest.update(np.ascontiguousarray(self.uniform[rows]).data)
        for name in sorted(self.columns):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.columns[name]).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """What a data set is made of.

    Attributes
    ----------
    horizons:
        Rising, in hours.
    start, end:
        Bounds of the decision times in nanoseconds, both inclusive; None for all there is.
    event:
        What an account is labelled for, see `training.labels.events`.
    extremes, book:
        Conventions, see `training.labels.breach_labels`.
    funding:
        Whether perpetuals pay funding along the paths, see `training.labels.funding_path`.
    samples:
        Which draws are made, see `training.labels.sampling`: ``uniform``, to evaluate on;
        ``training``, both before `test_start` and the uniform one from there on; ``both``, both
        everywhere.
    test_start:
        First decision time of the test span in nanoseconds, with ``training``.
    max_rows, seed:
        At most so many account-times are kept (about so many by the uniform draw alone), chosen
        by a seeded hash.
    """

    horizons: tuple[int, ...]
    start: int | None = None
    end: int | None = None
    event: Event = "call"
    extremes: Extremes = "close"
    book: Holding = "static"
    funding: bool = False
    samples: Samples = "uniform"
    test_start: int | None = None
    max_rows: int = 4_000_000
    seed: int = 0


@cache
def feature_columns(horizons: tuple[int, ...]) -> tuple[str, ...]:
    """Account features of a data set: all registered ones, and the forecast distances of its
    horizons that are not among them."""
    own = (name for hours in horizons for name in prior_distances(hours))
    return tuple(dict.fromkeys((*ACCOUNT_COLUMNS, *own)))


def build_dataset(
    market: LabelMarket, intervals: BookIntervals, ruleset: RuleSet, options: DatasetOptions
) -> Dataset:
    """Label the accounts, choose account-times, compute their features.

    Parameters
    ----------
    market:
        Marks, market features and quotes.
    intervals:
        Books of the accounts.
    ruleset:
        Gives the maintenance margin; of any engine.
    options:
        Span, horizons and conventions.

    Raises
    ------
    DataError
        No account-time is left, or funding is asked for and the market has no rates.
    RuleSetError
        The engine cannot follow the extremes asked for, or the rule set has no such event.
    """
    history, horizons = market.history, options.horizons
    closes = history.bars.closes
    first, last = 0, len(closes)
    if options.start is not None:
        first = int(np.searchsorted(closes, options.start, side="left"))
    if options.end is not None:
        last = int(np.searchsorted(closes, options.end, side="right"))
    per_hour = history.bars.interval.per_hour
    level = event_level(options.event, ruleset)
    paths = book_paths(intervals.book, market, ruleset)
    if options.funding:
        paths = FundedPaths(paths, intervals, paid_funding(history))
    outcomes = breach_labels(
        intervals,
        paths,
        market,
        LabelRules(
            first_row=first,
            last_row=last,
            longest_step=horizons[-1] * per_hour,
            extremes=options.extremes,
            level=level,
            book=options.book,
            draws=_draws(intervals, closes, options, (first, last)),
            seed=options.seed,
        ),
    )
    if not len(outcomes.row):
        raise DataError(
            f"no account-time can be used: {outcomes.considered} considered, dropped "
            f"{outcomes.dropped}{_most_frequent(outcomes.problems)}; widen [market] start/end or "
            "check bars and accounts"
        )
    # An account has one book at a time, so the order is that of one number.
    key = outcomes.row * len(intervals.account_ids) + intervals.account[outcomes.interval]
    order = np.argsort(key)
    interval, row = outcomes.interval[order], outcomes.row[order]
    headroom, margin = outcomes.headroom[order], outcomes.maintenance_margin[order]
    step = outcomes.breach_step[order]
    weight, uniform = outcomes.weight[order], outcomes.uniform[order]
    lagged = _lagged_breach_rate(outcomes, 24 * per_hour)[row]
    dropped, considered = outcomes.dropped, outcomes.considered
    del outcomes, order, key
    names = feature_columns(horizons)
    features = np.empty((len(row), len(names)))
    columns: dict[str, Floats] = {
        "headroom": headroom,
        "maintenance_margin": margin,
        "prior_volatility": np.empty(len(row)),
        "margin_ratio": margin / (headroom + level * margin),
        "lagged_breach_rate": lagged,
    }
    for hours in horizons:
        columns[f"first_passage_{hours}"] = np.empty(len(row))
    squares = realised_squares(history)

    def valued() -> Iterator[tuple[slice, AccountRows]]:
        for begin in range(0, len(row), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            rows, _ = value_rows(paths, interval[part], row[part])
            yield part, at_level(rows, headroom[part], level * margin[part])

    def compute(one: tuple[slice, AccountRows]) -> dict[str, Floats]:
        part, rows = one
        aggregates = compute_aggregates(rows, market.features)
        features[part] = compute_features(aggregates, names)
        found = {"prior_volatility": aggregates[:, PRIOR_VOLATILITY].copy()}
        for hours in horizons:
            found[f"first_passage_{hours}"] = first_passage_probability(aggregates, hours)
            oracle = oracle_first_passage(rows, history, squares, market.features, hours)
            if oracle is not None:
                found[f"oracle_first_passage_{hours}"] = oracle
        return found

    done = 0
    for found in in_order(compute, valued()):
        for name, values in found.items():
            column = columns.setdefault(name, np.empty(len(row)))
            column[done : done + len(values)] = values
        done += len(found["prior_volatility"])
    labels = np.stack([step <= hours * per_hour for hours in horizons], axis=1).astype(np.int8)
    return Dataset(
        time=closes[row],
        account=intervals.account[interval],
        account_ids=intervals.account_ids,
        features=features,
        labels=labels,
        horizons=horizons,
        columns=columns,
        dropped=dropped,
        considered=considered,
        oracle_interval=history.fine_interval.name,
        weight=weight,
        uniform=uniform,
    )


def at_level(rows: AccountRows, headroom: Floats, required: Floats) -> AccountRows:
    """Account rows at the figures of their paths, which the labels rest on: headroom over the
    level of the event, and what that level requires."""
    return replace(rows, headroom=headroom, maintenance_margin=required)


def _draws(
    intervals: BookIntervals, closes: Ints, options: DatasetOptions, span: tuple[int, int]
) -> Draws:
    """`max_rows` is shared between test span and the rest by the account-times that each has."""
    first, last = span

    def candidates(begin: int, end: int) -> int:
        inside = np.minimum(intervals.last_row, end) - np.maximum(intervals.first_row, begin)
        return int(np.maximum(inside, 0).sum())

    total = candidates(first, last)
    share = min(1.0, options.max_rows / total) if total else 1.0
    if options.samples == "uniform":
        return Draws.uniform(len(closes), share)
    test = last
    if options.samples == "training" and options.test_start is not None:
        test = int(np.searchsorted(closes, options.test_start, side="left"))
    barrier = np.arange(len(closes)) < test
    left = min(total, options.max_rows) - math.ceil(share * candidates(test, last))
    uniform = share if share == 1.0 else _UNIFORM_PART * share
    return Draws(np.where(barrier, uniform, share), barrier, max(left, 0))


def _most_frequent(problems: Mapping[str, int]) -> str:
    """The reason for which most account-times could not be valued, as a part of a message."""
    if not problems:
        return ""
    reason = max(sorted(problems), key=lambda text: problems[text])
    return f"; most could not be valued because {reason}"


def _lagged_breach_rate(outcomes: Outcomes, window: int) -> Floats:
    """Breaches per account at risk and bar over the last `window` bars, known at each row."""
    calls = np.concatenate([[0.0], np.cumsum(outcomes.calls)])
    risk = np.concatenate([[0.0], np.cumsum(outcomes.at_risk)])
    begin = np.maximum(np.arange(1, len(calls)) - window, 0)
    at_risk = risk[1:] - risk[begin]
    rate = np.zeros(len(at_risk))
    np.divide(calls[1:] - calls[begin], at_risk, out=rate, where=at_risk > 0)
    return rate
