"""Evaluate the forecasts of a bundle on configured data, without fitting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from market.core.errors import DataError
from models.bundle.bundle import Bundle, load_bundle
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.accounts import read_dataset, read_intervals
from pipelines.data.loaders import Market, describe, describe_rules, read_label_rules, read_market
from training.evaluation.evaluate import evaluate, forecast
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset


def evaluate_bundle(config: Config, path: Path) -> dict[str, Any]:
    """The object of ``evaluate --json``: the bundle and its baselines on configured data.

    With an empty ``[market] start``, account-times before the end of the bundle's training data
    are left out and counted in ``dropped`` as ``in_training``. With an explicit start they are
    used, and ``warnings`` tells the overlap. On real prices the data that the volatility
    forecast's coefficients were fitted to are training data too.

    Raises
    ------
    DataError
        The bundle forecasts another event than the configured one, or no account-time is left,
        for example because all data are older than the training's end.
    """
    with Stages(4) as stages:
        with stages.stage("bundle"):
            bundle = load_bundle(path)
            _check_event(bundle, config)
            training = bundle.manifest["training"]
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_label_rules(config, market)
        with stages.stage("labels"):
            intervals = read_intervals(config, market, ruleset)
            data, left_out = _unseen_rows(config, market, intervals, ruleset, bundle)
        with stages.stage("evaluate"):
            report = evaluate(
                data,
                forecast(bundle, data),
                training | {"span_ns": list(seen_span(training, real=market.real))},
                describe(config, market),
                market.history.bars.symbols,
            )
    return {
        "bundle": bundle.sha256,
        "data_sha256": data.sha256(),
        "ruleset": describe_rules(ruleset),
        **report,
        "dropped": report["dropped"] | {"in_training": left_out},
        "warnings": overlap_warnings(
            report["overlap_with_training_hours"],
            seen_span(training, real=market.real),
            "leave [market] start empty to evaluate only later data",
        ),
        "bars": market.history.report.to_dict(),
    }


def _check_event(bundle: Bundle, config: Config) -> None:
    event = bundle.manifest["training"].get("event", "call")
    if event != config.training.event:
        raise DataError(
            f"bundle {bundle.sha256} forecasts the event {event!r} and [training] event is "
            f"{config.training.event!r}; set it to that of the bundle"
        )


def seen_span(training: Mapping[str, Any], *, real: bool) -> tuple[int, int]:
    """First and last decision time, in nanoseconds, that a training has seen.

    `training` is that part of the bundle's manifest. The coefficients of its volatility forecast,
    if it reads one, have seen every `real` bar up to ``coefficients_end_ns``; a simulated market
    has none of those bars.
    """
    first, last = (int(end) for end in training["span_ns"])
    coefficients_end = training.get("coefficients_end_ns")
    if not real or coefficients_end is None:
        return first, last
    return 0, max(last, int(coefficients_end) - 1)


def training_end(training: Mapping[str, Any], *, real: bool) -> int:
    """First time, in nanoseconds, at which a row shares nothing with the training data, labels
    and the coefficients of the volatility forecast included; see `seen_span`."""
    return max(int(training["ends_ns"][1]), seen_span(training, real=real)[1] + 1)


def _unseen_rows(
    config: Config, market: Market, intervals: BookIntervals, ruleset: RuleSet, bundle: Bundle
) -> tuple[Dataset, int]:
    """Rows from the configured start, else from the end of the bundle's training data, and the
    number of account-times before it."""
    if config.market.start_ns is not None:
        return read_dataset(config, market, intervals, ruleset), 0
    start = training_end(bundle.manifest["training"], real=market.real)
    left_out = _account_times_before(start, intervals, market)
    try:
        return read_dataset(config, market, intervals, ruleset, start=start), left_out
    except DataError as error:
        raise DataError(
            f"{error}. {left_out:,} account-times before {format_time(start)}, the end of the "
            "bundle's training data, are left out: give newer data, or set [market] start to "
            "evaluate on the training span all the same"
        ) from error


def _account_times_before(start: int, intervals: BookIntervals, market: Market) -> int:
    """Account-times whose decision time is before `start`."""
    row = int(np.searchsorted(market.history.bars.closes, start, side="left"))
    rows = np.minimum(intervals.last_row, row) - np.minimum(intervals.first_row, row)
    return int(rows.sum())


def overlap_warnings(hours: float, seen: tuple[int, int], advice: str) -> list[str]:
    """What a reader has to know where so many hours of a span are within those `seen_span`."""
    if not hours:
        return []
    begin = f"{format_time(seen[0])} to " if seen[0] else "everything up to "
    return [
        f"{hours:,.0f} h of the evaluated span are within the training data of the bundle, {begin}"
        f"{format_time(seen[1])}: figures there do not hold for new data; {advice}"
    ]
