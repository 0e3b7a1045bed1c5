"""Two processes on one ledger: whoever is posted to, both have the same market to the last bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from ledger.following import SharedChain
from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import HOUR, MINUTE, SECOND, format_time
from market.core.errors import LedgerError
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.bar_updates import Correction
from monitoring.market_state.live_market import LiveMarket
from monitoring.recovery.recovery import MARKET_CHAIN
from monitoring.shared_market import NotFollowingError, SharedMarket
from tests.monitoring.market_helpers import START, assert_same_market
from tests.monitoring.quote_helpers import CASH, start

ADMIN = Correction("admin")
EXPIRY = "BTC-28MAR25"
ROWS = 14


@dataclass
class Replica:
    """A process: its market, its connection to the ledger, and its chain of decisions."""

    market: SharedMarket
    ledger: Ledger

    @property
    def live(self) -> LiveMarket:
        return self.market.live


@contextmanager
def replica(market: Any, folder: Path, now: int | None = None, rows: int = START) -> Any:
    with Ledger(f"sqlite:///{folder}/ledger.db", chain="serving") as ledger:
        live = start(market, rows, quorum=0.5)
        shared = SharedMarket(live, ledger, LedgerWriter(ledger), CASH)
        shared.recover(now)
        yield Replica(shared, ledger)


@st.composite
def posts(draw: st.DrawFn) -> list[tuple[int, str, Any, int]]:
    """Who is posted to, what, and how many seconds later: bars that are late, corrected, suspect,
    waiting or final, quotes that are suspect, late or of an expiry, and graces that run out."""
    cell = st.tuples(
        st.integers(0, ROWS - 1),
        st.integers(0, 3),
        st.sampled_from([1.0, 1.0, 1.0, 1.001, 0.6, 1.6, 9.0]),
    )
    bars = st.tuples(
        st.just("bars"),
        st.tuples(
            st.lists(cell, min_size=1, max_size=8),
            st.sampled_from(["", "", "", "final", "correct"]),
        ),
    )
    whole_step = st.integers(0, ROWS - 1).map(
        lambda row: ("bars", ([(row, symbol, 1.0) for symbol in range(4)], ""))
    )
    quote = st.tuples(
        st.sampled_from(["mark", "perp", "funding", "surface", "vol", "cash"]),
        st.integers(0, 60 * ROWS),
        st.sampled_from([1.0, 1.0, 1.01, 0.6, 1.6, 9.0]),
    )
    quotes = st.tuples(st.just("quotes"), st.lists(quote, min_size=1, max_size=5))
    grace = st.tuples(st.just("grace"), st.none())
    what = st.one_of(bars, whole_step, whole_step, quotes, grace)
    made = draw(
        st.lists(
            st.tuples(st.integers(0, 1), what, st.sampled_from([1, 20, 61, 1_800])),
            min_size=1,
            max_size=16,
        )
    )
    return [(who, kind, content, wait) for who, (kind, content), wait in made]


def bars_of(market: Any, cells: list[tuple[int, int, float]], now: int | None) -> Any:
    rows = []
    for row, symbol, factor in cells:
        bar = market.bar(START + row, symbol)
        names = ("open", "high", "low", "close")
        rows.append(BarIn(**(bar | {name: bar[name] * factor for name in names})))
    return bar_updates(rows, now).updates


def quotes_of(market: Any, made: list[tuple[str, int, float]], now: int | None) -> Any:
    begin = int(market.panel.closes[START - 1])
    price = float(market.panel.values[START - 1, 0, 3])
    rows: list[dict[str, Any]] = []
    for kind, minute, factor in made:
        ts = {"ts": format_time(begin + minute * MINUTE)}
        rows.append(
            {
                "mark": {"instrument": "BTCUSDT", "mark": price * factor},
                "perp": {"instrument": "BTCUSDT-PERP", "mark": price * factor * 1.001},
                # A negative zero has to be the same number everywhere.
                "funding": {
                    "instrument": "BTCUSDT-PERP",
                    "funding": -0.0 if factor == 1.0 else 1e-4,
                },
                "surface": {
                    "instrument": EXPIRY,
                    "forward": price * factor,
                    "vols": {str(round(price)): 0.5 * min(factor, 2.0)},
                },
                "vol": {
                    "instrument": f"{EXPIRY}-{round(price)}-C",
                    "vol": 0.5 * min(factor, 2.0),
                },
                "cash": {"instrument": "USDT", "mark": factor},
            }[kind]
            | ts
        )
    return quote_updates([QuoteIn(**row) for row in rows], now).updates


def send(to: SharedMarket, market: Any, kind: str, content: Any, now: int | None) -> Any:
    """What the sender is answered."""
    if kind == "bars":
        cells, how = content
        return to.post(
            "1h",
            bars_of(market, cells, now),
            now=now,
            final=how == "final",
            correction=ADMIN if how == "correct" else None,
        )
    if kind == "quotes":
        return to.post_quotes(quotes_of(market, content, now), now=now)
    if now is not None:
        to.count_due(now)
    return None


def assert_equal(a: LiveMarket, b: LiveMarket, now: int | None) -> None:
    assert_same_market(a, b)
    one, two = a.state, b.state
    assert one.suspect_prices == two.suspect_prices
    assert one.quotes == two.quotes
    assert one.quote_series.keys() == two.quote_series.keys()
    for open_, row in one.quote_series.items():
        assert row.tobytes() == two.quote_series[open_].tobytes()
    known = one.newest_known
    assert known == two.newest_known
    assert known is not None
    as_of = known if now is None else max(now, known)
    left, right = a.snapshot(as_of), b.snapshot(as_of)
    assert left.content() == right.content()
    for name in ("values", "correlation", "fast_correlation", "age"):
        mine, other = getattr(left.features, name), getattr(right.features, name)
        assert np.ascontiguousarray(mine).tobytes() == np.ascontiguousarray(other).tobytes(), name


@settings(max_examples=60)
@example(
    # The same bar twice in one request, beyond the hard band, in a step that waits.
    made=[(0, "bars", ([(0, 0, 9.0), (0, 0, 9.0)], ""), 1)],
    wall=False,
    lazy=False,
)
@given(made=posts(), wall=st.booleans(), lazy=st.booleans())
def test_poster_follower_and_recovery_are_equal_to_the_last_bit(
    market: Any,
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[int, str, Any, int]],
    wall: bool,
    lazy: bool,
) -> None:
    folder = tmp_path_factory.mktemp("shared")
    clock = int(market.panel.closes[START + ROWS])
    with replica(market, folder) as a, replica(market, folder) as b:
        for who, kind, content, wait in made:
            clock += wait * SECOND
            now = clock if wall else None
            send((a, b)[who].market, market, kind, content, now)
            if not lazy:
                a.market.catch_up()
                b.market.catch_up()
                assert_equal(a.live, b.live, now)
        now = clock if wall else None
        a.market.catch_up()
        b.market.catch_up()
        assert_equal(a.live, b.live, now)
        with replica(market, folder, now) as fresh:
            assert_equal(a.live, fresh.live, now)
            # And what comes next is decided on alike, whoever gets it.
            later = [
                ("bars", ([(ROWS, symbol, 1.0) for symbol in range(4)], "")),
                ("quotes", [("perp", 60 * ROWS, 1.3), ("mark", 60 * ROWS, 1.3)]),
            ]
            for kind, content in later:
                judged = [send_alone(each, market, kind, content, now) for each in (a, b, fresh)]
                assert judged[0] == judged[1] == judged[2]
                send(fresh.market, market, kind, content, now)
                a.market.catch_up()
                b.market.catch_up()
                assert_equal(a.live, b.live, now)
                assert_equal(b.live, fresh.live, now)
        assert verify(a.ledger.engine).intact


class _Judged(Exception):  # noqa: N818 - it carries an entry out, it is no error
    def __init__(self, entries: Any) -> None:
        self.payloads = [entry.payload for entry in entries]


def send_alone(each: Replica, market: Any, kind: str, content: Any, now: int | None) -> Any:
    """What a process would record."""

    def take(entries: Any) -> None:
        raise _Judged(entries)

    try:
        if kind == "bars":
            each.live.post(
                "1h", bars_of(market, content[0], now), now=now, record=lambda e: take([e])
            )
        else:
            each.live.post_quotes(
                quotes_of(market, content, now), cash_assets=CASH, now=now, record=take
            )
    except _Judged as judged:
        return judged.payloads
    return None


def whole_row(row: int) -> list[tuple[int, int, float]]:
    return [(row, symbol, 1.0) for symbol in range(4)]


def test_what_was_posted_elsewhere_is_a_duplicate_here_at_once(market: Any, tmp_path: Path) -> None:
    with replica(market, tmp_path) as a, replica(market, tmp_path) as b:
        first = send(a.market, market, "bars", (whole_row(0), ""), None)
        again = send(b.market, market, "bars", (whole_row(0), ""), None)
        assert {result.status for result in first.results} == {"applied"}
        assert {result.status for result in again.results} == {"duplicate"}
        assert again.as_of == first.as_of
        assert len(list(SharedChain(a.ledger, MARKET_CHAIN).after(b.market._head))) == 0
        assert [r.chain for r in a.ledger.records("bars")] == [MARKET_CHAIN]


def test_one_of_two_processes_counts_a_grace_and_the_other_follows(
    market: Any, tmp_path: Path
) -> None:
    now = int(market.panel.closes[START + 1])
    with replica(market, tmp_path, now) as a, replica(market, tmp_path, now) as b:
        send(a.market, market, "bars", ([(0, 1, 1.0)], ""), now)
        due = now + 61 * SECOND
        a.market.count_due(due)
        b.market.count_due(due)
        b.market.catch_up()
        assert_equal(a.live, b.live, due)
        assert b.live.newest_close == int(market.panel.closes[START])
        assert len(list(a.ledger.records("bars"))) == 2, "the grace is recorded once"


def test_threads_of_two_processes_that_post_at_once_end_equal(market: Any, tmp_path: Path) -> None:
    now = int(market.panel.closes[START + ROWS])
    with replica(market, tmp_path, now) as a, replica(market, tmp_path, now) as b:
        answers: list[Any] = []

        def post(to: Replica, symbols: tuple[int, ...]) -> None:
            for row in range(10):
                cells = [(row, symbol, 1.0) for symbol in symbols]
                answers.append(send(to.market, market, "bars", (cells, ""), now))
                made = [("mark", 60 * row + symbols[0], 1.0)]
                answers.append(send(to.market, market, "quotes", made, now))

        threads = [
            threading.Thread(target=post, args=(to, symbols))
            for to, symbols in ((a, (0, 1)), (b, (2, 3)), (b, (0, 3)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 60, "no post failed"
        a.market.catch_up()
        b.market.catch_up()
        assert_equal(a.live, b.live, now)
        assert a.live.newest_close == int(market.panel.closes[START + 9])
        assert verify(a.ledger.engine).intact


def test_a_post_that_never_gets_its_turn_ends_with_an_error_and_no_record(
    market: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.shared_market.MOST_ATTEMPTS", 3)
    with replica(market, tmp_path) as a, replica(market, tmp_path) as b:
        append, rows = SharedChain.append, iter(range(10))

        def late(chain: SharedChain, head: Any, entries: list[Entry], answer: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(SharedChain, "append", append)
                send(b.market, market, "bars", (whole_row(next(rows)), ""), None)
                return append(chain, head, entries, answer)

        monkeypatch.setattr(SharedChain, "append", late)
        with pytest.raises(LedgerError, match="appended to the market chain first 3 times"):
            send(a.market, market, "quotes", [("mark", 5, 1.0)], None)
        assert list(a.ledger.records("quotes")) == []
        assert a.live.state.quotes.newest is None


def test_records_of_an_older_version_are_recovered_and_the_chain_goes_on_after_them(
    market: Any, tmp_path: Path
) -> None:
    """Their chain is `serving`; the clock was ahead when they were written."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", chain="serving") as old:
        live = start(market, START, quorum=0.5)
        bars = bars_of(market, whole_row(0), None)
        live.post("1h", bars, record=lambda entry: old.append([entry]))
        quotes = quotes_of(market, [("mark", 10, 1.0), ("surface", 20, 1.0)], None)
        live.post_quotes(quotes, cash_assets=CASH, record=old.append)
    ahead = time.time_ns() + 10**15
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ledger.chain.time.time_ns", lambda: ahead)
        with Ledger(f"sqlite:///{tmp_path}/ledger.db", chain="serving") as old:
            bars = bars_of(market, whole_row(1), None)
            live.post("1h", bars, record=lambda entry: old.append([entry]))
    with replica(market, tmp_path) as a:
        assert_equal(live, a.live, None)
        send(a.market, market, "bars", (whole_row(2), ""), None)
        records = list(a.ledger.records("bars"))
        assert [r.chain for r in records] == ["serving", "serving", MARKET_CHAIN]
        with replica(market, tmp_path) as b:
            assert_equal(a.live, b.live, None)


def test_a_record_that_does_not_fit_is_refused_and_never_passed_over(
    market: Any, tmp_path: Path
) -> None:
    """A process that started from newer files cannot take a bar of an older step as counted."""
    with replica(market, tmp_path) as a, replica(market, tmp_path, rows=START + 3) as b:
        for row in range(3):
            send(a.market, market, "bars", ([(row, s, 1.0) for s in range(3)], ""), None)
        b.market.catch_up()
        send(a.market, market, "bars", ([(1, 3, 1.01)], ""), None)
        for _ in range(2):
            with pytest.raises(NotFollowingError, match=r"record 4 .* another history"):
                b.market.catch_up()
        with pytest.raises(NotFollowingError):
            b.market.check_following()
        with pytest.raises(NotFollowingError):
            send(b.market, market, "bars", (whole_row(5), ""), None)
        a.market.check_following()


def test_a_ledger_put_back_from_an_older_copy_is_noticed(market: Any, tmp_path: Path) -> None:
    with replica(market, tmp_path) as a:
        send(a.market, market, "bars", (whole_row(0), ""), None)
        with a.ledger.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM records WHERE chain = 'market'")
        with pytest.raises(NotFollowingError, match="restored from an older copy"):
            a.market.catch_up()
        with pytest.raises(NotFollowingError, match="restored from an older copy"):
            a.market.check_following()


def test_an_unexpected_error_stops_decisions_until_the_record_is_applied(
    market: Any,
    two: tuple[Replica, Replica],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = two
    send(a.market, market, "bars", (whole_row(0), ""), None)

    def fail(*_: object) -> None:
        raise IndexError("step 7 of 5")

    with monkeypatch.context() as patch:
        patch.setattr(LiveMarket, "follow", fail)
        for _ in range(3):
            with pytest.raises(NotFollowingError, match=r"record 1 .* in the log"):
                b.market.catch_up()
            with pytest.raises(NotFollowingError):
                b.market.check_following()
    (record,) = [r for r in caplog.records if r.exc_info]
    assert "step 7 of 5" in str(record.exc_info)
    b.market.catch_up()
    b.market.check_following()
    assert_equal(a.live, b.live, None)


@pytest.fixture
def two(market: Any, tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    with replica(market, tmp_path) as a, replica(market, tmp_path) as b:
        yield a, b


def test_expired_quotes_leave_every_process_by_the_clock_of_the_one_that_was_posted_to(
    market: Any, two: tuple[Replica, Replica]
) -> None:
    a, b = two
    now = int(market.panel.closes[START + ROWS])
    quotes = quotes_of(market, [("surface", 5, 1.0), ("vol", 6, 1.0)], now)
    a.market.post_quotes(quotes, now=now)
    over = now + 200 * 24 * HOUR
    a.market.post_quotes(quotes, now=over)  # duplicates and rejected: nothing is recorded
    b.market.catch_up()
    assert_equal(a.live, b.live, over)
    a.market.post_quotes(quotes_of(market, [("cash", 7, 1.0)], over), now=over)
    b.market.catch_up()
    assert a.live.state.quotes.instruments == b.live.state.quotes.instruments == {"USDT"}
    assert_equal(a.live, b.live, over)
