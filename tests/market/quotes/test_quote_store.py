from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from market.core.clock import DAY, HOUR, SECOND, format_time
from market.core.errors import DataError
from market.core.instruments import parse_expiry
from market.quotes.quote_store import (
    HISTORY_DEPTH,
    UNCONFIRMED,
    QuoteField,
    QuoteStore,
    QuoteStoreBuilder,
    restore_quotes,
)
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

EXPIRY = "BTC-27MAR26"
END = parse_expiry(EXPIRY)
NOW = END - 30 * DAY
CALL = f"{EXPIRY}-60000-C"
SVI = (0.01, 0.08, -0.4, 0.05, 0.2)


def told(*figures: QuoteField, before: QuoteStore | None = None, now: int = NOW) -> QuoteStore:
    builder = QuoteStoreBuilder(QuoteStore() if before is None else before)
    for figure in figures:
        builder.add(figure)
    return builder.build(now)


def forward(ts: int, value: float = 60_000.0) -> QuoteField:
    return QuoteField(EXPIRY, "forward", ts, (value,))


def figures() -> st.SearchStrategy[QuoteField]:
    """Figures of a few kinds; two of one kind never have the same time and other values."""

    def value(kind: str, ts: int) -> tuple[float, ...]:
        return {"svi": SVI, "vols": (50_000.0, 0.5 + ts / 1e3, 60_000.0, 0.6)}.get(
            kind, (1.0 + ts,)
        )

    return st.builds(
        lambda of, ts: QuoteField(of[0], of[1], NOW + ts, value(of[1], ts)),
        st.sampled_from(
            [
                (EXPIRY, "forward"),
                (EXPIRY, "rate"),
                (EXPIRY, "vols"),
                (CALL, "vol"),
                ("BTCUSDT-PERP", "mark"),
                ("BTCUSDT-PERP", "funding"),
                ("USDT", "mark"),
            ]
        ),
        st.integers(0, 30),
    )


@settings(max_examples=60)
@given(data=st.data())
def test_order_and_cut_into_posts_do_not_change_the_board(data: st.DataObject) -> None:
    given_ = data.draw(st.lists(figures(), min_size=1, max_size=25))
    shuffled = data.draw(st.permutations(given_))
    cut = data.draw(st.integers(0, len(shuffled)))
    once = told(*given_)
    twice = told(*shuffled[cut:], before=told(*shuffled[:cut]))
    assert once.board(NOW + 30) == twice.board(NOW + 30)
    assert once.newest == twice.newest


@settings(max_examples=60)
@given(given_=st.lists(figures(), max_size=HISTORY_DEPTH), at=st.integers(0, 30))
def test_the_board_at_a_time_knows_nothing_later(given_: list[QuoteField], at: int) -> None:
    rising = sorted(given_, key=lambda figure: figure.ts)
    earlier = [figure for figure in rising if figure.ts <= NOW + at]
    assert told(*rising).board(NOW + at) == told(*earlier).board(NOW + at)


def test_statuses_newer_wins_same_is_known_and_older_is_late() -> None:
    builder = QuoteStoreBuilder(QuoteStore())
    assert builder.add(forward(NOW)) == "applied"
    assert builder.add(forward(NOW)) == "duplicate"
    assert builder.add(forward(NOW + 1)) == "applied"
    assert builder.add(forward(NOW)) == "duplicate"
    assert builder.add(forward(NOW - 1)) == "late"
    assert builder.add(forward(NOW, 61_000.0)) == "late"
    assert builder.add(forward(NOW + 1, 62_000.0)) == "applied"  # corrected
    board = builder.build(NOW).board(NOW + 1)
    assert board is not None
    assert board.expiries[EXPIRY].forward == 62_000.0


def test_a_partial_quote_keeps_the_other_figures_and_the_surface_has_one_form() -> None:
    vols = QuoteField(EXPIRY, "vols", NOW, (50_000.0, 0.5, 60_000.0, 0.6))
    first = told(forward(NOW), vols, QuoteField(EXPIRY, "vol_confidence", NOW, (0.9,)))
    second = told(forward(NOW + SECOND, 61_000.0), before=first)
    board = second.board(NOW + SECOND)
    assert board is not None
    assert board.expiries[EXPIRY] == ExpiryQuote(
        NOW, 61_000.0, 0.0, None, {50_000.0: 0.5, 60_000.0: 0.6}, 1.0, 0.9
    )
    third = told(QuoteField(EXPIRY, "svi", NOW + SECOND, SVI), before=second).board(NOW + SECOND)
    assert third is not None
    assert third.expiries[EXPIRY].svi == SVI
    assert third.expiries[EXPIRY].vols == {}


@pytest.mark.parametrize("apart", [-3 * DAY, -HOUR, HOUR, 3 * DAY])
def test_svi_tells_the_same_vols_whenever_the_forward_came(apart: int) -> None:
    """Vol is the root of the variance over the time that was left when it was told."""
    board = told(QuoteField(EXPIRY, "svi", NOW, SVI), forward(NOW + apart)).board(NOW + 4 * DAY)
    assert board is not None
    quote = board.expiries[EXPIRY]
    assert quote.ts == min(NOW, NOW + apart)
    assert quote.svi is not None
    for k in (-0.5, 0.0, 0.3):
        before, after = (
            math.sqrt((a + b * (rho * (k - m) + math.hypot(k - m, sigma))) / (END - ts))
            for (a, b, rho, m, sigma), ts in ((SVI, NOW), (quote.svi, quote.ts))
        )
        assert after == pytest.approx(before, rel=1e-12)


def test_an_expiry_without_a_forward_is_not_on_the_board() -> None:
    assert told(QuoteField(EXPIRY, "vols", NOW, (60_000.0, 0.6))).board(NOW) is None
    assert QuoteStore().board(NOW) is None


def test_boards_of_one_state_are_one_object_until_an_expiry_is_over() -> None:
    later = "BTC-26JUN26"
    others = (QuoteField(CALL, "vol", NOW, (0.5,)), QuoteField(later, "forward", NOW, (1.0,)))
    store = told(forward(NOW), *others)
    before = [store.board(at) for at in (NOW, NOW + 1, END)]
    after = [store.board(at) for at in (END + 1, END + 2, END + DAY)]
    for boards in (before, after):
        assert boards[0] is not None
        assert all(board is boards[0] for board in boards)
    assert set(before[0].expiries) == {EXPIRY, later}  # type: ignore[union-attr]
    assert set(after[0].expiries) == {later}  # type: ignore[union-attr]
    assert store.board(NOW) is before[0]


def test_expired_options_leave_the_board_after_their_own_moment_only() -> None:
    quotes = told(
        forward(NOW),
        QuoteField(CALL, "vol", NOW, (0.6,)),
        QuoteField("BTC-24APR26", "forward", NOW, (1.0,)),
        QuoteField("BTCUSDT-PERP", "mark", NOW, (2.0,)),
    )
    at_end = quotes.board(END)
    assert at_end is not None
    assert set(at_end.expiries) == {EXPIRY, "BTC-24APR26"}
    after = quotes.board(END + 1)
    assert after is not None
    assert set(after.expiries) == {"BTC-24APR26"}
    assert set(after.instruments) == {"BTCUSDT-PERP"}
    dropped = told(before=quotes, now=END + 1)
    assert dropped.instruments == {"BTC-24APR26", "BTCUSDT-PERP"}
    assert dropped.newest == NOW


def test_a_time_before_what_is_kept_is_refused_and_named() -> None:
    many = [forward(NOW + i * SECOND, 60_000.0 + i) for i in range(HISTORY_DEPTH + 3)]
    quotes = told(*many)
    for i in range(3, HISTORY_DEPTH + 3):
        board = quotes.board(NOW + i * SECOND)
        assert board is not None
        assert board.expiries[EXPIRY].forward == 60_000.0 + i
    with pytest.raises(DataError, match=EXPIRY) as refused:
        quotes.board(NOW + 2 * SECOND)
    assert format_time(NOW + 2 * SECOND) in str(refused.value)
    assert told(*many[:HISTORY_DEPTH]).board(NOW - 1) is None


def test_restored_quotes_give_the_same_board_and_refuse_earlier_times() -> None:
    whole = told(
        *[forward(NOW + i, 60_000.0 + i) for i in range(3)],
        QuoteField(EXPIRY, "svi", NOW + 1, SVI),
        QuoteField("USDT", "mark", NOW + 1, (0.99,)),
    )
    again = restore_quotes(whole.figures_in_force())
    assert again.board(NOW + 2) == whole.board(NOW + 2)
    assert again.newest == whole.newest
    with pytest.raises(DataError):
        again.board(NOW + 1)


def test_boards_are_sorted_whatever_the_order_of_quotes() -> None:
    names = ["SOLUSDT", "BTCUSDT-PERP", "ETHUSDT", "BTCUSDT"]
    board = told(*[QuoteField(name, "mark", NOW, (1.0,)) for name in names]).board(NOW)
    assert board is not None
    assert all(a < b for a, b in pairwise(board.instruments))


positive = st.floats(1e-9, 1e9)
share = st.floats(0.0, 1.0)


@given(
    expiry=st.builds(
        ExpiryQuote,
        st.integers(0, 2**62),
        positive,
        st.floats(-2, 2),
        st.none() | st.tuples(positive, positive, share, share, positive),
        st.dictionaries(positive, positive, max_size=4),
        share,
        share,
    ),
    instrument=st.builds(
        InstrumentQuote,
        st.integers(0, 2**62),
        *[st.none() | positive] * 3,
        share,
        *[st.none() | positive] * 2,
    ),
)
def test_content_survives_json_to_the_last_bit(expiry: Any, instrument: Any) -> None:
    board = QuoteBoard({EXPIRY: expiry}, {CALL: instrument})
    assert QuoteBoard.from_content(json.loads(json.dumps(board.content))) == board


PERP = "BTCUSDT-PERP"


def mark(ts: int, value: float, *, suspect: bool = False) -> QuoteField:
    held = (UNCONFIRMED, NOW + ts) if suspect else (0, 0)
    return QuoteField(PERP, "mark", NOW + ts, (value,), *held)


def quoted(quotes: QuoteStore, ts: int) -> tuple[float | None, float | None]:
    """Mark and suspect mark of the perpetual at a time."""
    board = quotes.board(NOW + ts)
    assert board is not None
    quote = board.instruments[PERP]
    return quote.mark, quote.suspect_mark


def test_suspect_mark_stands_beside_the_good_one_until_a_good_one_follows() -> None:
    first = told(mark(0, 100.0), mark(10, 65.0, suspect=True))
    board = first.board(NOW + 20)
    assert board is not None
    assert board.instruments[PERP] == InstrumentQuote(
        NOW, 100.0, suspect_mark=65.0, suspect_ts=NOW + 10
    )
    assert board.content["instruments"][PERP]["suspect_mark"] == 65.0
    assert QuoteBoard.from_content(json.loads(json.dumps(board.content))) == board
    second = told(mark(30, 101.0), before=first)
    assert quoted(second, 30) == (101.0, None)
    # As it was then: nothing had followed yet.
    assert [quoted(second, ts) for ts in (0, 9, 10, 29)] == [
        (100.0, None),
        (100.0, None),
        (100.0, 65.0),
        (100.0, 65.0),
    ]


def test_confirmed_mark_counts_from_the_time_of_what_confirmed_it() -> None:
    builder = QuoteStoreBuilder(told(mark(0, 100.0), mark(10, 65.0, suspect=True)))
    (waiting,) = builder.suspects()
    assert builder.confirm(waiting, NOW + 15) is not None
    assert builder.confirm(waiting, NOW + 16) is None, "it waits no more"
    quotes = builder.build(NOW)
    assert quotes.suspects == frozenset()
    assert [quoted(quotes, ts) for ts in (9, 10, 14, 15, 99)] == [
        (100.0, None),
        (100.0, 65.0),
        (100.0, 65.0),
        (65.0, None),
        (65.0, None),
    ]


def test_suspect_correction_of_a_good_mark_does_not_take_its_place() -> None:
    quotes = told(mark(0, 100.0), mark(0, 65.0, suspect=True))
    assert quoted(quotes, 0) == (100.0, 65.0)
    assert quoted(told(mark(0, 99.0), before=quotes), 0) == (99.0, None)


def test_last_good_mark_outlives_any_number_of_suspect_ones() -> None:
    glitches = [mark(ts, 60.0 + ts / 100, suspect=True) for ts in range(1, 4 * HISTORY_DEPTH)]
    quotes = told(mark(0, 100.0), *glitches)
    assert quoted(quotes, 4 * HISTORY_DEPTH) == (100.0, glitches[-1].value[0])
    assert len(quotes.histories[PERP, "mark"].values) <= HISTORY_DEPTH
    with pytest.raises(DataError, match="not kept"):
        quotes.board(NOW + 1)
    with_good = told(mark(500, 101.0), before=quotes)
    assert quoted(with_good, 500) == (101.0, None)


def test_suspect_marks_alone_give_a_board_without_a_mark_however_many() -> None:
    quotes = told(*[mark(ts, 60.0 + ts, suspect=True) for ts in range(3 * HISTORY_DEPTH)])
    board = quotes.board(NOW + 100)
    assert board is not None
    assert board.instruments[PERP].mark is None
    assert board.instruments[PERP].suspect_mark == 60.0 + 3 * HISTORY_DEPTH - 1


def test_suspect_forward_leaves_the_one_in_force() -> None:
    suspect = QuoteField(EXPIRY, "forward", NOW + 5, (39_000.0,), UNCONFIRMED, NOW + 5)
    board = told(forward(NOW), suspect).board(NOW + 5)
    assert board is not None
    assert board.expiries[EXPIRY] == ExpiryQuote(
        NOW, 60_000.0, 0.0, suspect_forward=39_000.0, suspect_ts=NOW + 5
    )
    assert told(suspect).board(NOW + 5) is None, "no forward in force: not on the board"


def test_restored_quotes_know_what_waits() -> None:
    quotes = told(mark(0, 100.0), mark(10, 65.0, suspect=True), forward(NOW))
    again = restore_quotes(quotes.figures_in_force(), quotes.suspect_figures())
    assert again.board(NOW + 10) == quotes.board(NOW + 10)
    assert again.suspects == quotes.suspects
    assert again.newest == quotes.newest
    (waiting,) = again.suspect_figures()
    assert waiting.suspect
    assert waiting.since == NOW + 10
