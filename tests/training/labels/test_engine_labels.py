"""Labels under engines that margin a whole book, options included: the requirement at each row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from decisions.book_scoring import account_rows
from features.account.frame import compute_aggregates, compute_features
from features.state.market_state import MarketState
from features.state.snapshot import MarketSnapshot
from margin.book.book_paths import book_paths
from margin.book.requirement import Requirement, compute_requirement
from margin.engines.equity_paths import RowSpans
from margin.rules.ruleset import load_ruleset
from market.accounts.account_files import write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS, MINUTE
from market.core.errors import DataError, RuleSetError
from market.quotes.quotes import ExpiryQuote, QuoteBoard
from market.sources.base import AccountUpdates
from training.backtest.backtest import BacktestSettings, backtest
from training.labels.account_panel import PanelTimes, value_panel
from training.labels.book_intervals import BookIntervals, from_history
from training.labels.dataset import DatasetOptions, build_dataset
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]

RULES = load_ruleset("derive-pmrm2")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
ROWS, FIRST, HORIZONS = 240, 180, (1, 8)
TIMES = 1_767_225_600_000_000_000 + np.arange(1, ROWS + 1, dtype=np.int64) * HOUR  # 2026
EXPIRY = "BTC-27MAR26"
OPTION = f"{EXPIRY}-60000-C"
SHORT_CALLS = Account("calls", 28_000.0, (Position(OPTION, -2.0), Position("BTCUSDT-PERP", 0.6)))
STRADDLE = Account(
    "straddle",
    6_000.0,
    (Position(OPTION, 1.0), Position(f"{EXPIRY}-60000-P", -1.0)),
    (Balance("BTC", 0.05),),
)
TWO_COINS = Account("two", 9e9, (Position("BTCUSDT-PERP", 1.0), Position("ETHUSDT-PERP", 1.0)))


def history(seed: int = 6, fine: bool = False) -> MarketHistory:
    """A random walk that shakes enough for both outcomes, with half-hour marks where asked for."""
    rng = np.random.default_rng(seed)
    half = np.array([60_000.0, 3_000.0]) * np.exp(
        np.cumsum(rng.normal(0.0, 0.008, (2 * ROWS, 2)), axis=0)
    )
    mark = half[1::2].copy()
    values = np.repeat(mark[:, :, None], 5, axis=2)
    values[1:, :, 0] = mark[:-1]
    values[:, :, 1] = 1.001 * np.maximum(values[:, :, 0], mark)
    values[:, :, 2] = 0.999 * np.minimum(values[:, :, 0], mark)
    values[:, :, 4] = rng.uniform(50.0, 150.0, mark.shape)
    made = MarketHistory.from_panel(BarPanel(INTERVALS["1h"], SYMBOLS, TIMES - HOUR, values))
    return replace(made, fine_mark=half, fine_interval=INTERVALS["30m"]) if fine else made


def board(time: int, price: float) -> QuoteBoard:
    """What is quoted of the expiry at a time: vols rise as it is told."""
    hours = (time - int(TIMES[0])) / HOUR
    vols = {50_000.0: 0.7 + hours / 2_000.0, 70_000.0: 0.5}
    return QuoteBoard({EXPIRY: ExpiryQuote(time, 1.01 * price, 0.03, vols=vols)})


def label_market(history: MarketHistory, silent: range = range(0)) -> LabelMarket:
    """The market with a quote at each close, but for the rows in `silent` and before the first."""
    features = MarketState(SYMBOLS, INTERVALS["1h"]).advance(history.bars)

    def quotes(time: int) -> QuoteBoard | None:
        row = int(np.searchsorted(TIMES, time, side="right")) - 1
        return None if row in silent else board(int(TIMES[row]), float(history.mark[row, 0]))

    return LabelMarket(history, features, lambda: quotes)


def intervals(folder: Path, history: MarketHistory, *accounts: Account) -> BookIntervals:
    books = [AccountUpdates(int(TIMES[FIRST]), Book.of(accounts))]
    recorded = write_accounts(folder, books, ())
    return from_history(recorded, TIMES, SYMBOLS, history.mark, RULES)


def requirement(market: LabelMarket, row: int, *accounts: Account) -> Requirement:
    """The rules' own answer at a row; a perpetual entered at the mark of the first one."""
    entry = float(market.history.mark[FIRST, 0])
    entered = [
        replace(
            account,
            positions=tuple(
                replace(one, entry_price=entry) if one.instrument.endswith("PERP") else one
                for one in account.positions
            ),
        )
        for account in accounts
    ]
    time = int(TIMES[row])
    snapshot = MarketSnapshot.of_history(
        market.history, market.features, time, market.quotes()(time)
    )
    return compute_requirement(Book.of(entered), snapshot.view(), RULES)


@pytest.mark.parametrize("account", [SHORT_CALLS, STRADDLE])
def test_labels_and_features_of_options_are_those_of_the_requirement(
    tmp_path: Path, account: Account
) -> None:
    market = label_market(history())
    data = build_dataset(
        market, intervals(tmp_path, market.history, account), RULES, DatasetOptions(HORIZONS)
    )
    headroom = {
        row: float(requirement(market, row, account).headroom[0]) for row in range(FIRST, ROWS)
    }
    rows = np.searchsorted(TIMES, data.time)
    safe = [row for row in range(FIRST, ROWS - HORIZONS[-1]) if headroom[row] > 0.0]
    assert rows.tolist() == safe
    for h, hours in enumerate(HORIZONS):
        expected = [any(headroom[k] < 0.0 for k in range(row + 1, row + hours + 1)) for row in safe]
        assert data.labels[:, h].tolist() == expected
    assert 0 < data.labels[:, 1].sum() < len(data)
    for n in (0, len(rows) // 2, len(rows) - 1):
        row = int(rows[n])
        own = requirement(market, row, account)
        seen = replace(account_rows(own, np.arange(1)), row=np.array([row]))
        assert seen.leg_greeks is not None
        assert seen.leg_greeks.gamma.any()
        expected_features = compute_features(compute_aggregates(seen, market.features))[0]
        np.testing.assert_array_equal(data.features[n], expected_features)
        assert data.columns["margin_ratio"][n] == pytest.approx(
            own.maintenance_margin[0] / own.equity[0], rel=1e-9
        )


def test_finest_sees_what_happens_between_closes(tmp_path: Path) -> None:
    market = label_market(history(fine=True))
    held = intervals(tmp_path, market.history, SHORT_CALLS)
    span = RowSpans(np.array([0]), np.array([FIRST]), np.array([ROWS]), ROWS)
    paths = book_paths(held.book, market, RULES)
    close, finest = (paths.equity_paths(span, kind) for kind in ("close", "finest"))
    np.testing.assert_array_equal(close.headroom, finest.headroom)
    np.testing.assert_array_equal(close.lowest_headroom, close.headroom)
    assert (finest.lowest_headroom <= finest.headroom).all()
    assert (finest.lowest_headroom < finest.headroom).any()
    row = FIRST + 7
    before = market.history.fine_mark[2 * row]
    view = replace(
        MarketSnapshot.of_history(market.history, market.features, int(TIMES[row - 1])).view(),
        as_of=int(TIMES[row]) - 30 * MINUTE,
        mark=before,
        age_hours=np.zeros(2),
        quotes=market.quotes()(int(TIMES[row]) - 30 * MINUTE),
    )
    within = compute_requirement(held.book, view, RULES).headroom[0]
    assert finest.lowest_headroom[7] == min(within, finest.headroom[7])


def test_unquoted_rows_are_dropped_and_counted_apart(tmp_path: Path) -> None:
    silent = range(FIRST + 20, FIRST + 23)
    market = label_market(history(), silent)
    held = intervals(tmp_path, market.history, SHORT_CALLS)
    data = build_dataset(market, held, RULES, DatasetOptions(HORIZONS))
    rows = set(np.searchsorted(TIMES, data.time).tolist())
    reached = range(silent.start - HORIZONS[-1], silent.stop)
    assert not rows & set(reached)
    assert rows
    assert data.considered == len(data) + sum(data.dropped.values())
    assert 3 <= data.dropped["not_valued"] <= len(reached)


def test_a_book_that_is_never_quoted_says_what_is_missing(tmp_path: Path) -> None:
    market = label_market(history(), range(ROWS))
    held = intervals(tmp_path, market.history, SHORT_CALLS)
    with pytest.raises(DataError, match=rf"not_valued.*{EXPIRY} is not quoted.*market/quotes"):
        build_dataset(market, held, RULES, DatasetOptions(HORIZONS))


def test_accounts_the_rules_refuse_leave_the_others_as_they_are(tmp_path: Path) -> None:
    market = label_market(history())
    alone = intervals(tmp_path / "alone", market.history, SHORT_CALLS)
    among = intervals(tmp_path / "among", market.history, SHORT_CALLS, TWO_COINS)
    one, both = (
        build_dataset(market, held, RULES, DatasetOptions(HORIZONS)) for held in (alone, among)
    )
    assert both.dropped.pop("not_valued") == ROWS - FIRST
    assert one.dropped == both.dropped
    np.testing.assert_array_equal(one.features, both.features)
    np.testing.assert_array_equal(one.labels, both.labels)


def test_bound_is_refused_where_the_margin_is_that_of_the_book(tmp_path: Path) -> None:
    market = label_market(history())
    held = intervals(tmp_path, market.history, SHORT_CALLS)
    with pytest.raises(RuleSetError, match=r'"bound".*derive-pmrm2.*"close" or "finest"'):
        build_dataset(market, held, RULES, DatasetOptions(HORIZONS, extremes="bound"))


def test_options_are_refused_by_rules_without_them(tmp_path: Path) -> None:
    recorded = write_accounts(
        tmp_path, [AccountUpdates(int(TIMES[FIRST]), Book.of([SHORT_CALLS]))], ()
    )
    rules = load_ruleset("linear-tiers")
    with pytest.raises(DataError, match=rf"{OPTION}.*'linear-tiers' margins spot and perpetuals"):
        from_history(recorded, TIMES, SYMBOLS, history().mark, rules)


@pytest.mark.parametrize("name", ["derive-srm", "emir-ccp", "drift-v2", "paradex-portfolio"])
def test_linear_books_are_followed_under_every_engine(tmp_path: Path, name: str) -> None:
    rules, market = load_ruleset(name), label_market(history())
    account = Account("a", 9_000.0, (Position("BTCUSDT-PERP", -0.8, 60_000.0),))
    recorded = write_accounts(tmp_path, [AccountUpdates(int(TIMES[FIRST]), Book.of([account]))], ())
    held = from_history(recorded, TIMES, SYMBOLS, market.history.mark, rules)
    paths = book_paths(held.book, market, rules)
    span = RowSpans(np.array([0]), np.array([FIRST]), np.array([ROWS]), ROWS)
    along = paths.equity_paths(span, "close")
    rows = np.array([FIRST + 30, FIRST, FIRST + 30])
    panel = value_panel(
        held, PanelTimes(np.zeros(3, dtype=np.int64), rows, np.arange(4), 1.0), market, rules
    )
    for row, headroom, initial in zip(
        rows.tolist(), panel.rows.headroom, panel.initial_margin, strict=True
    ):
        view = MarketSnapshot.of_history(
            market.history, market.features, int(TIMES[row]), market.quotes()(int(TIMES[row]))
        ).view()
        own = compute_requirement(Book.of([account]), view, rules)
        assert headroom == own.headroom[0] == along.headroom[row - FIRST]
        assert initial == own.initial_margin[0]
    assert panel.usable.all()


def test_options_are_refused_by_the_backtest_alone(tmp_path: Path) -> None:
    market = label_market(history())
    held = intervals(tmp_path, market.history, SHORT_CALLS)
    first, middle, last = (int(TIMES[row]) for row in (0, 200, -1))
    with pytest.raises(DataError, match=rf"{OPTION}.*alone.*evaluate"):
        backtest(
            market,
            held,
            held,
            RULES,
            None,  # type: ignore[arg-type]
            BacktestSettings((first, middle), (middle, last), seed=1),
        )
