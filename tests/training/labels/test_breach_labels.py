"""Labels: paths made by hand, and a plain oracle on small random markets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from features.registry import MARKET_COLUMNS
from features.state.market_state import MarketFeatures
from margin.engines.tier.paths import TierPaths
from margin.rules.ruleset import load_ruleset
from market.accounts.book import Book
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.bars.quality import QualityReport
from market.core.clock import INTERVALS
from training.labels.book_intervals import BookIntervals, account_keys
from training.labels.breach_labels import NEVER, LabelRules, Outcomes, breach_labels
from training.labels.market_path import LabelMarket
from training.labels.sampling import Draws

Floats = npt.NDArray[np.float64]

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
RULES = load_ruleset("linear-tiers")
RATE = 0.02
HOUR = INTERVALS["1h"]


@dataclass(frozen=True)
class Held:
    """One book of an account over some rows."""

    account: int
    first: int
    last: int
    cash: float
    legs: tuple[tuple[int, float], ...]

    def headroom(self, low: Floats, high: Floats) -> float:
        """Each leg at its worse price; under one flat rate that is plain arithmetic."""
        worst = (min(q * p - RATE * abs(q) * p for p in (low[s], high[s])) for s, q in self.legs)
        return self.cash + float(sum(worst))


def intervals(books: Sequence[Held]) -> BookIntervals:
    names = tuple(f"acc-{i}" for i in range(1 + max(book.account for book in books)))
    legs = [leg for book in books for leg in book.legs]
    start = np.cumsum([0, *(len(book.legs) for book in books)])
    return BookIntervals(
        account=np.array([book.account for book in books]),
        account_ids=names,
        account_key=account_keys(names),
        first_row=np.array([book.first for book in books]),
        last_row=np.array([book.last for book in books]),
        book=Book(
            account_ids=tuple(names[book.account] for book in books),
            cash=np.array([book.cash for book in books]),
            leg_start=start,
            leg_instrument=tuple(f"{SYMBOLS[s]}-PERP" for s, _ in legs),
            leg_quantity=np.array([q for _, q in legs], dtype=np.float64),
            leg_entry_price=np.zeros(len(legs)),
            balance_start=np.zeros(len(books) + 1, dtype=np.int64),
            balance_asset=(),
            balance_amount=np.zeros(0),
        ),
        symbol_start=start,
        symbol=np.array([s for s, _ in legs], dtype=np.int64),
    )


def features(usable: npt.NDArray[np.bool_]) -> MarketFeatures:
    """Features of which nothing is missing but, where a symbol is not usable, its history."""
    rows, symbols = usable.shape
    square = np.ones((rows, symbols, symbols))
    return MarketFeatures(
        symbols=SYMBOLS,
        closes=np.arange(1, rows + 1, dtype=np.int64) * HOUR.nanoseconds,
        values=np.ones((rows, symbols, len(MARKET_COLUMNS))),
        correlation=square,
        fast_correlation=square,
        age=np.zeros((rows, symbols)),
        history=np.where(usable, 1000.0, 0.0),
        bar_hours=np.full((rows, symbols), 1000.0),
    )


def history(
    mark: Floats, low: Floats | None = None, high: Floats | None = None, fine: Floats | None = None
) -> MarketHistory:
    opens = np.arange(len(mark), dtype=np.int64) * HOUR.nanoseconds
    values = np.repeat(mark[:, :, None], 5, axis=2)
    return MarketHistory(
        bars=BarPanel(HOUR, SYMBOLS, opens, values),
        mark=mark,
        mark_high=mark if high is None else high,
        mark_low=mark if low is None else low,
        fine_interval=HOUR if fine is None else INTERVALS["30m"],
        fine_mark=mark if fine is None else fine,
        report=QualityReport(),
    )


def labelled(books: Sequence[Held], history: MarketHistory, **changes: Any) -> Outcomes:
    usable = changes.pop("usable", ~np.isnan(history.mark))
    draws = Draws.uniform(len(history.mark), changes.pop("keep_share", 1.0))
    market = LabelMarket(history, features(usable))
    rules = LabelRules(
        **{"first_row": 0, "last_row": len(history.mark), "longest_step": 6, **changes},
        draws=draws,
    )
    held = intervals(books)
    return breach_labels(held, TierPaths(held.book, market, RULES), market, rules)


def flat(rows: int) -> Floats:
    return np.tile([100.0, 100.0, 50.0], (rows, 1))


# Equity 11, margin 6: A may fall by 5 / 0.98.
THREE_LEGS = ((0, 1.0), (1, -1.0), (2, 2.0))
FALLEN = 94.0


@pytest.mark.parametrize(("extremes", "step"), [("close", 6), ("finest", 5), ("bound", 4)])
def test_breach_hour_of_each_convention(extremes: str, step: int) -> None:
    mark = flat(12)
    mark[6:, 0] = FALLEN
    low, fine = mark.copy(), np.repeat(mark, 2, axis=0)
    low[4, 0] = FALLEN
    fine[10, 0] = FALLEN  # the first half of the bar that ends at row 5
    fine[12, 0] = 100.0
    market = history(mark, low=low, fine=fine)
    found = labelled([Held(0, 0, 1, -89.0, THREE_LEGS)], market, extremes=extremes)
    assert found.breach_step.tolist() == [step]
    assert found.headroom[0] == pytest.approx(5.0)
    assert found.maintenance_margin[0] == pytest.approx(6.0)


def test_high_hurts_a_short_under_bound_only() -> None:
    mark = flat(8)
    high = mark.copy()
    high[2, 1] = 110.0
    market = history(mark, high=high)
    books = [Held(0, 0, 1, -89.0, THREE_LEGS)]
    assert labelled(books, market, extremes="bound").breach_step.tolist() == [2]
    assert labelled(books, market, extremes="close").breach_step.tolist() == [NEVER]


def test_breach_after_the_longest_horizon_is_none() -> None:
    mark = flat(12)
    mark[7:, 0] = FALLEN
    found = labelled([Held(0, 0, 2, -89.0, THREE_LEGS)], history(mark))
    assert found.breach_step.tolist() == [NEVER, 6]


def test_already_called_is_dropped_and_counted() -> None:
    mark = flat(12)
    mark[2:4, 0] = FALLEN
    found = labelled([Held(0, 0, 5, -89.0, THREE_LEGS)], history(mark))
    assert found.row.tolist() == [0, 1, 4]
    assert found.dropped["already_called"] == 2
    assert found.considered == 5


def test_horizon_past_end_of_data_is_dropped_and_counted() -> None:
    found = labelled([Held(0, 0, 10, -89.0, THREE_LEGS)], history(flat(10)))
    assert found.row.tolist() == [0, 1, 2, 3]
    assert found.dropped["horizon_past_end"] == 6


def test_horizon_past_end_of_a_dead_contract_is_dropped_not_labelled_safe() -> None:
    mark = flat(20)
    mark[9:, 2] = np.nan
    found = labelled([Held(0, 0, 12, -89.0, THREE_LEGS)], history(mark))
    assert found.row.tolist() == [0, 1, 2]
    assert found.dropped["horizon_past_end"] == 6
    assert found.dropped["warm_up"] == 3


def test_unusable_symbol_is_warm_up() -> None:
    usable = np.ones((12, 3), dtype=bool)
    usable[:3, 2] = False
    found = labelled([Held(0, 0, 5, -89.0, THREE_LEGS)], history(flat(12)), usable=usable)
    assert found.row.tolist() == [3, 4]
    assert found.dropped["warm_up"] == 3


def test_static_book_ignores_the_later_trade_that_as_traded_follows() -> None:
    mark = flat(16)
    mark[5:, 0] = FALLEN
    books = [Held(0, 0, 3, -89.0, THREE_LEGS), Held(0, 3, 16, 50.0, ((1, -0.1),))]
    static, traded = (labelled(books, history(mark), book=book) for book in ("static", "as_traded"))
    assert static.breach_step[:3].tolist() == [5, 4, 3]
    assert traded.breach_step[:3].tolist() == [NEVER] * 3


def test_account_that_goes_flat_is_censored_in_as_traded() -> None:
    books = [Held(0, 0, 4, -89.0, THREE_LEGS), Held(0, 4, 16, 11.0, ())]
    found = labelled(books, history(flat(16)), book="as_traded")
    assert len(found.row) == 0
    assert found.dropped["closed"] == 4


def test_closed_account_is_censored_in_as_traded_and_followed_in_static() -> None:
    books = [Held(0, 0, 8, -89.0, THREE_LEGS)]
    traded = labelled(books, history(flat(20)), book="as_traded")
    assert traded.row.tolist() == [0, 1]
    assert traded.dropped["closed"] == 6
    assert len(labelled(books, history(flat(20))).row) == 8


def test_gap_between_closing_and_reopening_holds_no_book() -> None:
    mark = flat(30)
    books = [
        Held(0, 0, 25, -80.0, THREE_LEGS),
        Held(1, 0, 8, -89.0, THREE_LEGS),
        Held(1, 14, 20, -89.0, THREE_LEGS),
        Held(1, 20, 30, -89.0, THREE_LEGS),
    ]
    found = labelled(books, history(mark), book="as_traded")
    rows = found.row[found.interval > 0]
    assert rows.tolist() == [0, 1, *range(14, 24)]
    assert found.considered == 25 + 8 + 6 + 10


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_keep_share_is_kept(share: float) -> None:
    books = [Held(i, 0, 60, -80.0, THREE_LEGS) for i in range(60)]
    found = labelled(books, history(flat(70)), keep_share=share)
    assert len(found.row) / (60 * 60) == pytest.approx(share, abs=0.03)


def test_selection_depends_on_account_and_time_never_on_the_outcome() -> None:
    books = [Held(i, 0, 40, -80.0, THREE_LEGS) for i in range(20)]
    calm, crash = flat(60), flat(60)
    crash[41:, 0] = 50.0
    chosen = [
        set(zip(found.interval.tolist(), found.row.tolist(), strict=True))
        for found in (
            labelled(books, history(calm), keep_share=0.3),
            labelled(books, history(crash), keep_share=0.3),
            labelled(books[::2], history(calm), keep_share=0.3),
            labelled(books, history(calm), keep_share=0.3, seed=1),
        )
    ]
    assert chosen[0] == chosen[1]
    assert {(2 * i, row) for i, row in chosen[2]} == {(i, r) for i, r in chosen[0] if i % 2 == 0}
    assert chosen[0] != chosen[3]


def expected(
    books: Sequence[Held], market: MarketHistory, extremes: str, traded: bool, longest: int
) -> tuple[dict[tuple[int, int], int], dict[str, int]]:
    """Breach step by segment and row, and what was dropped, one row at a time."""
    rows = len(market.mark)
    paths = {
        "close": [(m[None], m[None]) for m in market.mark],
        "bound": [
            (a[None], b[None]) for a, b in zip(market.mark_low, market.mark_high, strict=True)
        ],
        "finest": [(f, f) for f in market.fine_mark.reshape(rows, -1, len(SYMBOLS))],
    }[extremes]

    def in_force(own: Held, row: int) -> Held | None:
        if not traded:
            return own
        matching = [b for b in books if b.account == own.account and b.first <= row < b.last]
        return matching[0] if matching else None

    def outcome(own: Held, row: int) -> int | str:
        mark = market.mark[row]
        at = own.headroom(mark, mark)
        if np.isnan(at):
            return "warm_up"
        if at <= 0.0:
            return "already_called"
        if row + longest >= rows:
            return "horizon_past_end"
        worst: list[float] = []
        vacant: list[bool] = []
        for k in range(row + 1, row + longest + 1):
            before, now = in_force(own, k - 1), in_force(own, k)
            seen = [np.inf]
            if before is not None:
                seen += [before.headroom(*pair) for pair in zip(*paths[k], strict=True)]
            if now is not None:
                seen.append(now.headroom(market.mark[k], market.mark[k]))
            worst.append(float(np.min(seen)))
            vacant.append(now is None or not now.legs)
        if np.isnan(worst).any():
            return "horizon_past_end"
        breach = next((i for i, value in enumerate(worst) if value < 0.0), longest)
        if any(vacant[: min(breach, longest)]):
            return "closed"
        return breach + 1 if breach < longest else NEVER

    kept: dict[tuple[int, int], int] = {}
    dropped = dict.fromkeys(("warm_up", "already_called", "horizon_past_end", "closed"), 0)
    for n, own in enumerate(books):
        for row in range(own.first, own.last if own.legs else own.first):
            found = outcome(own, row)
            if isinstance(found, str):
                dropped[found] += 1
            else:
                kept[n, row] = found
    return kept, dropped


def random_world(seed: int) -> tuple[list[Held], MarketHistory]:
    """Three coins, one of which may die, and accounts that trade, close and open again."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(12, 28))
    fine = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (2 * rows, 3)), axis=0))
    mark = fine[1::2].copy()
    reach = np.exp(np.abs(rng.normal(0.0, 0.01, (2, rows, 3))))
    pairs = fine.reshape(rows, 2, 3)
    low, high = pairs.min(axis=1) / reach[0], pairs.max(axis=1) * reach[1]
    if rng.random() < 0.3:
        death = int(rng.integers(rows // 2, rows))
        for array in (mark, low, high):
            array[death:, 2] = np.nan
        fine[2 * death :, 2] = np.nan
    books: list[Held] = []
    for account in range(4):
        row = int(rng.integers(0, 6))
        while row < rows:
            last = min(rows, row + int(rng.integers(1, 12)))
            # A listed book needs prices; one that begins after a death leaves the dead coin out.
            alive = [s for s in range(3) if not np.isnan(mark[row, s])]
            coins = rng.permutation(alive)[: rng.integers(0, len(alive) + 1)]
            legs = tuple((int(s), float(rng.normal(0.0, 2.0))) for s in np.sort(coins))
            cash = float(rng.uniform(0.0, 40.0)) - sum(q * mark[row, s] for s, q in legs)
            books.append(Held(account, row, last, cash, legs))
            row = last + int(rng.integers(0, 3)) * int(rng.integers(0, 3))
    return books, history(mark, low, high, fine)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["close", "bound", "finest"]),
    st.booleans(),
    st.integers(1, 7),
)
def test_kernel_equals_a_plain_oracle(seed: int, extremes: str, traded: bool, longest: int) -> None:
    books, market = random_world(seed)
    found = labelled(
        books,
        market,
        extremes=extremes,
        book="as_traded" if traded else "static",
        longest_step=longest,
    )
    kept, dropped = expected(books, market, extremes, traded, longest)
    keys = zip(found.interval.tolist(), found.row.tolist(), strict=True)
    assert dict(zip(keys, found.breach_step.tolist(), strict=True)) == kept
    assert found.dropped == dropped
    assert found.considered == len(kept) + sum(dropped.values())


@pytest.mark.parametrize("traded", [False, True])
def test_accounts_in_chunks_have_the_labels_of_all_at_once(
    traded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, market = random_world(11)
    book = "as_traded" if traded else "static"
    whole = labelled(books, market, book=book)
    monkeypatch.setattr("training.labels.breach_labels._CHUNK", 30)
    parts = labelled(books, market, book=book)
    assert len(whole.row)
    for name in ("interval", "row", "headroom", "maintenance_margin", "breach_step", "calls"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
    assert (parts.dropped, parts.considered) == (whole.dropped, whole.considered)
