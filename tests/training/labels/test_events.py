"""Events by their level, and funding along the path, against arithmetic by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from features.registry import MARKET_COLUMNS
from features.state.market_state import MarketFeatures
from margin.book.book_paths import RequirementPaths, book_paths
from margin.engines.equity_paths import BookPaths, Extremes, RowSpans
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.accounts.book import Book
from market.bars.history import MarketHistory
from market.bars.panel import EXOGENOUS_WIDTH, FUNDING, BarPanel
from market.bars.quality import QualityReport
from market.core.clock import INTERVALS
from market.core.errors import DataError, RuleSetError
from training.labels.book_intervals import BookIntervals, account_keys
from training.labels.breach_labels import NEVER, LabelRules, breach_labels
from training.labels.dataset import DatasetOptions, build_dataset
from training.labels.events import EVENTS, Event, event_level
from training.labels.funding_path import FundedPaths, paid_funding
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]
RULES = load_ruleset("linear-tiers")
HOUR = INTERVALS["1h"]
ROWS = 12


def market(mark: Floats, rates: Floats | None = None, low: Floats | None = None) -> LabelMarket:
    """One coin at these marks; `rates` are an hour, NaN where none is paid."""
    rows = len(mark)
    column = mark[:, None]
    exogenous = None
    if rates is not None:
        exogenous = np.full((rows, 1, EXOGENOUS_WIDTH), np.nan)
        exogenous[:, 0, FUNDING] = rates
    opens = np.arange(rows, dtype=np.int64) * HOUR.nanoseconds
    panel = BarPanel(HOUR, ("AUSDT",), opens, np.repeat(column[:, :, None], 5, axis=2), exogenous)
    history = MarketHistory(
        bars=panel,
        mark=column,
        mark_high=column,
        mark_low=column if low is None else low[:, None],
        fine_interval=HOUR,
        fine_mark=column,
        report=QualityReport(),
    )
    square = np.ones((rows, 1, 1))
    features = MarketFeatures(
        symbols=("AUSDT",),
        closes=panel.closes,
        values=np.full((rows, 1, len(MARKET_COLUMNS)), 0.01),
        correlation=square,
        fast_correlation=square,
        age=np.zeros((rows, 1)),
        history=np.full((rows, 1), 1000.0),
        bar_hours=np.full((rows, 1), 1000.0),
    )
    return LabelMarket(history, features)


def holding(
    quantity: float, cash: float, instrument: str = "AUSDT-PERP", last: int = 1
) -> BookIntervals:
    """One account with one position entered at 100, held from row 0."""
    names = ("acc",)
    return BookIntervals(
        account=np.array([0]),
        account_ids=names,
        account_key=account_keys(names),
        first_row=np.array([0]),
        last_row=np.array([last]),
        book=Book(
            account_ids=names,
            cash=np.array([cash]),
            leg_start=np.array([0, 1]),
            leg_instrument=(instrument,),
            leg_quantity=np.array([quantity]),
            leg_entry_price=np.array([100.0]),
            balance_start=np.zeros(2, dtype=np.int64),
            balance_asset=(),
            balance_amount=np.zeros(0),
        ),
        symbol_start=np.array([0, 1]),
        symbol=np.array([0]),
    )


FALLING: Floats = np.array([100.0 - k for k in range(ROWS)])
"""A long of one coin with 8 of cash has equity 8 - k and a margin of about 2 at row k."""


def with_life_cycle(**table: float) -> RuleSet:
    return ruleset_from_content({**RULES.content(), "life_cycle": table})


@pytest.mark.parametrize(
    ("event", "level"),
    [("warning", 1.25), ("call", 1.0), ("liquidation", 0.5), ("bad_debt", 0.0)],
)
@pytest.mark.parametrize("engine_paths", [True, False])
def test_event_happens_at_the_first_close_below_its_level(
    event: Event, level: float, engine_paths: bool
) -> None:
    assert event_level(event, RULES) == level
    path, books = market(FALLING), holding(1.0, 8.0)
    paths: BookPaths = (
        book_paths(books.book, path, RULES)
        if engine_paths
        else RequirementPaths(books.book, path, RULES)
    )
    found = breach_labels(books, paths, path, LabelRules(0, ROWS, 10, level=level))
    rate = found.maintenance_margin[0] / 100.0
    equity = 8.0 - np.arange(ROWS)
    below = np.flatnonzero(equity < level * rate * FALLING)
    assert found.breach_step.tolist() == [below[0]]
    assert found.headroom[0] == pytest.approx(8.0 - level * rate * 100.0)


def test_level_counts_within_the_bar_too() -> None:
    low = np.full(ROWS, 100.0)
    low[4] = 91.5  # equity −0.5
    path, books = market(np.full(ROWS, 100.0), low=low), holding(1.0, 8.0)
    paths = book_paths(books.book, path, RULES)

    def step(level: float, extremes: Extremes) -> int:
        rules = LabelRules(0, ROWS, 10, extremes=extremes, level=level)
        return int(breach_labels(books, paths, path, rules).breach_step[0])

    assert [step(level, "bound") for level in (1.25, 1.0, 0.5, 0.0)] == [4] * 4
    low[4] = 92.5  # equity 0.5
    assert [step(level, "bound") for level in (1.25, 1.0, 0.5, 0.0)] == [4, 4, 4, NEVER]
    assert step(1.25, "close") == NEVER


def test_a_rule_set_without_an_event_refuses_it() -> None:
    venue = load_ruleset("binance-usdm")
    assert [event_level(event, venue) for event in EVENTS] == [1.25, 1.0, 1.0, 0.0]
    with pytest.raises(RuleSetError, match="warning_share = 0"):
        event_level("warning", with_life_cycle(warning_share=0.0))
    with pytest.raises(RuleSetError, match="stop_out_share = 0"):
        event_level("liquidation", with_life_cycle(stop_out_share=0.0))


def test_features_and_baselines_stand_at_the_level_of_the_event() -> None:
    path, books = market(FALLING), holding(1.0, 8.0, last=3)

    def built(event: Event) -> dict[str, Floats]:
        options = DatasetOptions((2, 5), event=event)
        data = build_dataset(path, books, RULES, options)
        return {**data.columns, "label": data.labels[:, 1].astype(np.float64)}

    call, debt = built("call"), built("bad_debt")
    equity = np.array([8.0, 7.0, 6.0])
    np.testing.assert_allclose(debt["headroom"], equity)
    np.testing.assert_allclose(call["headroom"] + call["maintenance_margin"], equity)
    np.testing.assert_allclose(debt["margin_ratio"], call["margin_ratio"])
    assert (debt["first_passage_5"] < call["first_passage_5"]).all()
    assert call["label"].tolist() == [0.0, 1.0, 1.0] or call["label"].sum() > debt["label"].sum()


RATES = np.full(ROWS, np.nan)
RATES[[2, 6, 10]] = [0.001, 0.002, -0.001]
"""Every four hours, so 0.4%, 0.8% and -0.4% of the notional."""


@dataclass(frozen=True)
class Case:
    quantity: float
    instrument: str
    paid: tuple[float, ...]


@pytest.mark.parametrize(
    "case",
    [
        Case(1.0, "AUSDT-PERP", (0, 0, 0.392, 0.392, 0.392, 0.392, 1.144, 1.144)),
        Case(-2.0, "AUSDT-PERP", (0, 0, -0.784, -0.784, -0.784, -0.784, -2.288, -2.288)),
        Case(1.0, "AUSDT", (0,) * 8),
    ],
)
@pytest.mark.parametrize("extremes", ["close", "finest", "bound"])
def test_perpetuals_pay_notional_times_rate_at_each_funding_time(
    case: Case, extremes: Extremes
) -> None:
    path = market(FALLING, RATES)
    books = holding(case.quantity, 300.0, case.instrument)
    paths = book_paths(books.book, path, RULES)
    funded = FundedPaths(paths, books, paid_funding(path.history))
    span = RowSpans(np.array([0]), np.array([0]), np.array([8]), ROWS)
    plain, net = (each.equity_paths(span, extremes) for each in (paths, funded))
    paid = np.array(case.paid, dtype=np.float64)
    np.testing.assert_allclose(plain.headroom[:8] - net.headroom[:8], paid, atol=1e-9)
    np.testing.assert_allclose(plain.lowest_headroom[1:8] - net.lowest_headroom[1:8], paid[1:])
    # What was paid before a span is in its cash.
    later = RowSpans(np.array([0]), np.array([3]), np.array([8]), ROWS)
    plain, net = (each.equity_paths(later, extremes) for each in (paths, funded))
    np.testing.assert_allclose(plain.headroom[:5] - net.headroom[:5], paid[3:] - paid[3], atol=1e-9)


def test_funding_makes_a_call_of_its_own() -> None:
    path, books = market(np.full(ROWS, 100.0), RATES * 5.0), holding(1.0, 3.5)
    without = build_dataset(path, books, RULES, DatasetOptions((8,)))
    with_funding = build_dataset(path, books, RULES, DatasetOptions((8,), funding=True))
    assert (without.labels[0, 0], with_funding.labels[0, 0]) == (0, 1)


def test_funding_without_rates_is_refused() -> None:
    path, books = market(FALLING), holding(1.0, 8.0)
    with pytest.raises(DataError, match="no funding rates"):
        build_dataset(path, books, RULES, replace(DatasetOptions((2,)), funding=True))
