"""Quoted prices and the outlier filter: what waits, what confirms it, and that records say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions.messages import BarIn, BarsResponse
from features.state.market_state import MarketState
from features.state.point_in_time import advance_through
from features.state.snapshot import MarketSnapshot
from ledger.records import Entry
from ledger.store import Ledger
from margin.valuation.marks import YEAR, perpetual_marks, spot_marks, suspect_view
from market.bars.history import MarketHistory
from market.bars.outlier_filter import LAST, PriceGuard
from market.bars.panel import BASIS, CLOSE
from market.core.clock import DAY, HOUR, MINUTE, SECOND, format_time
from market.core.instruments import parse_expiry
from market.quotes.quotes import InstrumentQuote, QuoteBoard
from monitoring.market_state import live_market
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.live_steps import StepRule
from monitoring.quotes.messages import QuoteIn, QuotesResponse
from monitoring.recovery.recorded_quotes import recorded_quotes

START = 220
GUARD = PriceGuard()
CASH = frozenset({"USDT"})
BTC, PERP = "BTCUSDT", "BTCUSDT-PERP"
VOLS = ("vol", "far vol", "vols", "svi", "implied_vol")

Post = dict[str, Any]


def start(market: Any, rows: int = START, quorum: float = 0.0) -> LiveMarket:
    """An endpoint's market whose newest bar is that of row `rows` - 1, without an open step.

    Each bar makes its step count unless a quorum is given.
    """
    history = MarketHistory.from_panel(market.panel.rows(0, rows), GUARD)
    end = history.end
    assert end is not None
    state = MarketState(history.bars.symbols, history.bars.interval)
    features = advance_through(state, history.bars, None)
    guard = end.state.copy()
    guard[:, LAST] = history.bars.values[-1, :, CLOSE]
    recent = replace(history.bars.rows(-len(end.told), None), values=end.told)
    rule = StepRule(quorum=quorum)
    return LiveMarket(state, history.last_mark(-1), features, recent, GUARD, guard, rule)


def post_quotes(live: LiveMarket, quotes: list[Post], **rest: Any) -> QuotesResponse:
    return live.post_quotes(msgspec.convert(quotes, list[QuoteIn]), cash_assets=CASH, **rest)


def post_bars(live: LiveMarket, bars: list[Post], **rest: Any) -> BarsResponse:
    return live.post("1h", [BarIn(**bar) for bar in bars], **rest)


def statuses(response: QuotesResponse | BarsResponse) -> list[str]:
    return [result.status for result in response.results]


def close_of(live: LiveMarket) -> int:
    assert live.newest_close is not None
    return live.newest_close


def price_of(live: LiveMarket, column: int = 0) -> float:
    return float(live.moment.mark[column])


def board(live: LiveMarket, as_of: int | None = None) -> QuoteBoard:
    known = live.moment.newest_known
    assert known is not None
    found = live.snapshot(known if as_of is None else as_of).quotes
    assert found is not None
    return found


def quote_of(live: LiveMarket, name: str, as_of: int | None = None) -> InstrumentQuote:
    return board(live, as_of).instruments[name]


def mark(name: str, value: float, ts: int) -> Post:
    return {"instrument": name, "mark": value, "ts": format_time(ts)}


def bar(live: LiveMarket, value: float, steps: int = 1, symbol: str = BTC) -> Post:
    """A bar of some steps on that closes at a price."""
    step = live.moment.interval.nanoseconds
    ts = format_time(close_of(live) + (steps - 1) * step)
    prices = {"open": value, "high": value * 1.001, "low": value * 0.999, "close": value}
    return {"symbol": symbol, "ts": ts, "volume": 10.0, **prices}


@pytest.mark.parametrize("name", [BTC, PERP, "USDT"])
@pytest.mark.parametrize("gap", [0, 3 * HOUR, DAY - MINUTE])
def test_impossible_price_is_rejected_at_the_first_quote_and_after_a_gap(
    market: Any, name: str, gap: int
) -> None:
    live = start(market)
    at = close_of(live) + gap
    response = post_quotes(live, [mark(name, 1e-15, at), mark(name, 1e12, at + 1)])
    assert statuses(response) == ["rejected"] * 2
    assert "beyond a factor of 5 from the last good price" in str(response.results[0].detail)
    assert live.moment.quotes.newest is None, "nothing of it is kept"


def test_rejected_price_takes_the_other_figures_of_its_quote_along(market: Any) -> None:
    live = start(market)
    quote = mark(PERP, 1e-15, close_of(live)) | {"funding": 0.001}
    assert statuses(post_quotes(live, [quote])) == ["rejected"]
    assert live.snapshot(close_of(live)).quotes is None


def test_suspect_mark_leaves_the_last_good_one_and_is_shown_beside_it(market: Any) -> None:
    live, entries = start(market), []
    at, price = close_of(live), price_of(live)
    assert statuses(post_quotes(live, [mark(PERP, price, at)])) == ["applied"]
    suspect = mark(PERP, 0.65 * price, at + MINUTE) | {"funding": 0.001}
    response = post_quotes(live, [suspect], record=entries.extend)
    assert statuses(response) == ["suspect"]
    assert "-35.0% from the last good price" in str(response.results[0].detail)
    found = quote_of(live, PERP)
    assert (found.mark, found.ts) == (price, at)
    assert (found.suspect_mark, found.suspect_ts) == (0.65 * price, at + MINUTE)
    assert found.funding == 0.001 / 8
    (entry,) = entries
    assert isinstance(entry, Entry)
    assert entry.payload["results"][0]["status"] == "suspect"
    assert entry.payload["suspects"] == [[PERP, "mark", at + MINUTE, 0.65 * price, at + MINUTE]]
    assert statuses(post_quotes(live, [suspect])) == ["duplicate"]
    good = post_quotes(live, [mark(PERP, 0.99 * price, at + 2 * MINUTE)])
    assert statuses(good) == ["applied"]
    assert quote_of(live, PERP).suspect_mark is None, "a bad tick is forgotten"


def test_second_source_confirms_both_marks(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    post_quotes(live, [mark(BTC, price, at + MINUTE)])
    response = post_quotes(live, [mark(PERP, 0.99 * price, at + 2 * MINUTE)])
    assert statuses(response) == ["applied"]
    assert f"confirms {BTC} of" in str(response.results[0].detail)
    assert quote_of(live, BTC) == InstrumentQuote(at + MINUTE, price)
    assert quote_of(live, PERP).mark == 0.99 * price
    # As of its time: between the two it was suspect.
    earlier = quote_of(live, BTC, at + MINUTE + SECOND)
    assert (earlier.mark, earlier.suspect_mark) == (None, price)


def test_marks_that_agree_in_one_post_are_both_applied(market: Any) -> None:
    live, entries = start(market), []
    at, price = close_of(live), 0.65 * price_of(live)
    both = [mark(BTC, price, at), mark(PERP, price, at)]
    response = post_quotes(live, both, record=entries.extend)
    assert statuses(response) == ["applied", "applied"]
    assert response.results[0].detail == "mark confirmed by a second source"
    assert {quote_of(live, name).mark for name in (BTC, PERP)} == {price}


def test_crash_in_one_source_alone_is_confirmed_by_time(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for minute, expected in ((0, "suspect"), (4, "suspect"), (5, "applied")):
        quote = mark(PERP, price * (1 - minute / 1e3), at + minute * MINUTE)
        assert statuses(post_quotes(live, [quote])) == [expected]
    assert quote_of(live, PERP).mark == price * 0.995
    assert quote_of(live, PERP).suspect_mark is None


def test_stuck_feed_never_confirms_itself(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for minute in range(0, 60, 3):
        quote = mark(PERP, price, at + minute * MINUTE)
        assert statuses(post_quotes(live, [quote])) == ["suspect"]
    assert quote_of(live, PERP).mark is None


def test_depegged_coin_waits_and_counts_once_it_stays_there(market: Any) -> None:
    live = start(market)
    at = close_of(live)
    told = [(0, 0.999), (1, 0.87), (2, 0.88), (6, 0.86), (7, 0.99)]
    found = [
        statuses(post_quotes(live, [mark("USDT", value, at + minute * MINUTE)]))[0]
        for minute, value in told
    ]
    assert found == ["applied", "suspect", "suspect", "applied", "suspect"]
    assert quote_of(live, "USDT").mark == 0.86


def test_forward_is_held_against_its_underlying(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), price_of(live)
    day = np.datetime64(at + 30 * DAY, "ns").astype("datetime64[s]").item()
    expiry = f"BTC-{day.day}{day:%b%y}".upper()
    quotes = [
        {"instrument": expiry, "forward": value, "ts": format_time(at + i)}
        for i, value in enumerate((1e-15, 0.65 * price, 1.01 * price, 0.66 * price))
    ]
    assert statuses(post_quotes(live, quotes)) == ["rejected", "suspect", "applied", "suspect"]
    found = board(live).expiries[expiry]
    assert (found.forward, found.suspect_forward) == (1.01 * price, 0.66 * price)
    confirming = [mark(name, 0.65 * price, at + MINUTE) for name in (BTC, PERP)]
    assert statuses(post_quotes(live, confirming)) == ["applied"] * 2
    found = board(live).expiries[expiry]
    assert (found.forward, found.suspect_forward) == (0.66 * price, None)


@pytest.mark.parametrize("minutes", [(1, 2), (30, 58)])
def test_bar_that_two_live_marks_agree_with_is_applied(
    market: Any, minutes: tuple[int, int]
) -> None:
    """Two agreeing marks 35% lower, then the bar: the crash counts at once."""
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for name, minute in zip((BTC, PERP), minutes, strict=True):
        post_quotes(live, [mark(name, price, at + minute * MINUTE)])
    assert statuses(post_bars(live, [bar(live, price * 0.99)])) == ["applied"]
    assert price_of(live) == price * 0.99
    assert not live.moment.suspect.any()


def test_one_live_mark_and_the_bar_confirm_each_other(market: Any) -> None:
    live, entries = start(market), []
    at, price = close_of(live), 0.65 * price_of(live)
    assert statuses(post_quotes(live, [mark(PERP, price, at + MINUTE)])) == ["suspect"]
    assert statuses(post_bars(live, [bar(live, price)], record=entries.append)) == ["applied"]
    assert quote_of(live, PERP).mark == price
    (entry,) = entries
    assert entry.payload["confirmed"] == [[PERP, "mark", at + MINUTE, price, at + HOUR]]


@pytest.mark.parametrize("marks_first", [True, False])
def test_bar_of_a_step_that_waits_for_a_quorum_is_confirmed_by_marks(
    market: Any, marks_first: bool
) -> None:
    live = start(market, quorum=0.5)
    at, before = close_of(live), price_of(live)
    price, close = 0.65 * before, at + HOUR
    marks = [mark(name, 1.01 * price, close + MINUTE) for name in (BTC, PERP)]
    if marks_first:
        post_quotes(live, marks)
    status = statuses(post_bars(live, [bar(live, price)]))
    assert status == ["applied" if marks_first else "suspect"]
    if not marks_first:
        waiting = live.snapshot(close)
        assert waiting.suspect_mark is not None
        assert waiting.mark[0] == before
        assert waiting.suspect_mark[0] == price
        assert [name for name, *_ in live.moment.suspect_prices] == [f"bar of {BTC}"]
        details = str(post_quotes(live, marks).results)
        assert f"confirms the bar of {BTC}" in details
    found = live.snapshot(close + HOUR)
    assert found.mark[0] == price
    assert found.suspect_mark is None
    assert close_of(live) == at  # the step of the others still waits


@pytest.mark.parametrize("minute", [0, 61, 119])
def test_later_mark_releases_a_suspect_bar(market: Any, minute: int) -> None:
    live = start(market)
    before, at = price_of(live), close_of(live)
    price = 0.65 * before
    assert statuses(post_bars(live, [bar(live, price)])) == ["suspect"]
    assert price_of(live) == before
    snapshot = live.snapshot(at + HOUR)
    assert snapshot.suspect_mark is not None
    assert snapshot.suspect_ts is not None
    assert (snapshot.suspect_mark[0], snapshot.suspect_ts[0]) == (price, at + HOUR)
    assert np.isnan(snapshot.suspect_mark[1:]).all()
    response = post_quotes(live, [mark(PERP, 1.01 * price, at + HOUR + minute * MINUTE)])
    assert statuses(response) == ["applied"]
    assert f"confirms the bar of {BTC}" in str(response.results[0].detail)
    assert price_of(live) == price
    assert live.snapshot(close_of(live) + 2 * HOUR).suspect_mark is None
    # The same as if the mark had come first.
    other = start(market)
    post_quotes(other, [mark(PERP, 1.01 * price, at + HOUR)])
    assert statuses(post_bars(other, [bar(other, price)])) == ["applied"]
    for name, array in other.moment.head.arrays.items():
        assert array.tobytes() == live.moment.head.arrays[name].tobytes(), name


def test_mark_too_far_from_the_bar_in_time_releases_nothing(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.6 * price_of(live)
    post_bars(live, [bar(live, price)])
    late = mark(PERP, price, at + 3 * HOUR + SECOND)
    assert statuses(post_quotes(live, [late])) == ["suspect"]
    assert live.moment.suspect[0]


def test_confirmed_bar_stays_so_when_marks_recover(market: Any) -> None:
    live = start(market)
    at, before = close_of(live), price_of(live)
    post_quotes(live, [mark(PERP, 0.65 * before, at + 59 * MINUTE)])
    post_bars(live, [bar(live, 0.65 * before)])
    back = [mark(name, before, at + 65 * MINUTE) for name in (BTC, PERP)]
    assert statuses(post_quotes(live, back)) == ["applied", "applied"]
    # Another symbol's bar of the step replays it.
    assert statuses(post_bars(live, [bar(live, price_of(live, 1), 0, "ETHUSDT")])) == ["applied"]
    assert price_of(live) == 0.65 * before
    assert not live.moment.suspect.any()


def test_marks_do_not_carry_a_bar_beyond_the_hard_band(market: Any) -> None:
    live, entries = start(market), []
    at, before = close_of(live), price_of(live)
    for i, name in enumerate((BTC, PERP)):
        post_quotes(live, [mark(name, before / 4.9, at + i * MINUTE)])
    assert quote_of(live, BTC).mark == before / 4.9
    response = post_bars(live, [bar(live, before / 5.1)], record=entries.append)
    assert statuses(response) == ["rejected"]
    assert "hard band" in str(response.results[0].detail)
    assert price_of(live) == before
    assert entries[0].payload["results"][0]["status"] == "rejected"
    assert statuses(post_bars(live, [bar(live, before / 5.1, 0)])) == ["duplicate"]


def test_suspect_prices_never_enter_the_context_of_bars(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), price_of(live)
    post_quotes(live, [mark(BTC, price, at + MINUTE), mark(PERP, 0.7 * price, at + MINUTE)])
    assert np.isnan(live.moment.posted_context[at][0, BASIS])
    post_quotes(live, [mark(PERP, 1.001 * price, at + 2 * MINUTE)])
    assert live.moment.posted_context[at][0, BASIS] == pytest.approx(np.log(1.001))


def test_market_without_a_filter_takes_quotes_as_they_are(market: Any) -> None:
    live = market.head(START).live()
    assert statuses(post_quotes(live, [mark(PERP, 1e-15, close_of(live))])) == ["applied"]


def crash(live: LiveMarket) -> list[tuple[str, Post]]:
    """A crash by 35% as quotes, forward and bar tell of it, and a glitch of another symbol."""
    at, price = close_of(live), 0.65 * price_of(live)
    return [
        ("quote", mark(BTC, price, at + 50 * MINUTE)),
        ("quote", mark(PERP, 0.98 * price, at + 52 * MINUTE)),
        ("bar", bar(live, 1.01 * price)),
        ("bar", bar(live, price_of(live, 1), symbol="ETHUSDT")),
        ("quote", mark("ETHUSDT-PERP", 2.0 * price_of(live, 1), at + 55 * MINUTE)),
    ]


def tell_all(live: LiveMarket, told: list[tuple[str, Post]], cuts: set[int], **rest: Any) -> None:
    """Post what was told, in one post as long as the kind is the same and there is no cut."""
    run: list[Post] = []
    for i, (kind, what) in enumerate(told):
        run.append(what)
        if i + 1 == len(told) or told[i + 1][0] != kind or i + 1 in cuts:
            post = post_quotes if kind == "quote" else post_bars
            post(live, run, **{name: call(kind) for name, call in rest.items()})
            run = []


@settings(max_examples=25)
@given(data=st.data())
def test_order_of_confirmation_does_not_matter(market: Any, data: st.DataObject) -> None:
    live, shuffled = start(market), start(market)
    told = crash(live)
    tell_all(live, told, set())
    order = data.draw(st.permutations(told))
    tell_all(shuffled, order, data.draw(st.sets(st.integers(0, len(told)))))
    assert live.moment.mark.tobytes() == shuffled.moment.mark.tobytes()
    assert board(live) == board(shuffled)
    assert quote_of(live, PERP).suspect_mark is None
    assert quote_of(live, "ETHUSDT-PERP").suspect_mark is not None
    same_head(live, shuffled)


def same_head(a: LiveMarket, b: LiveMarket) -> None:
    for part in ("committed", "head"):
        for name, array in getattr(a.moment, part).arrays.items():
            assert array.tobytes() == getattr(b.moment, part).arrays[name].tobytes(), name
    for name in ("mark", "guard"):
        assert getattr(a.moment, name).tobytes() == getattr(b.moment, name).tobytes(), name
    assert a.moment.suspect_prices == b.moment.suspect_prices


@st.composite
def told_markets(draw: st.DrawFn) -> list[tuple[str, int, int, float]]:
    """Bars and quotes of a market that jumps: kind, minute, source and factor of the price."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([BTC, PERP, "bar", "USDT", *VOLS]),
                st.integers(0, 20),
                st.sampled_from([1.0, 0.66, 0.6, 0.35, 1.5, 7.0, 1e-9]),
                st.floats(0.97, 1.03),
            ),
            min_size=1,
            max_size=25,
        )
    )
    told, minute = [], 0
    for source, wait, factor, noise in steps:
        minute += wait
        told.append(("bar" if source == "bar" else "quote", minute, source, factor * noise))
    return told


def expiry_of(live: LiveMarket, days: int = 30) -> str:
    day = np.datetime64(close_of(live) + days * DAY, "ns").astype("datetime64[s]").item()
    return f"BTC-{day.day}{day:%b%y}".upper()


def vol_quote(live: LiveMarket, figure: str, factor: float, ts: int) -> Post:
    """Vols of half a factor: of an option at or away from the money, a surface, the index."""
    price, expiry, vol = round(price_of(live)), expiry_of(live), min(0.5 * factor, 10.0)
    post: Post = {"ts": format_time(ts)}
    if figure == "implied_vol":
        return post | {"instrument": BTC, "implied_vol": vol}
    if figure in ("vol", "far vol"):
        strike = price if figure == "vol" else 2 * price
        return post | {"instrument": f"{expiry}-{strike}-C", "vol": vol}
    post |= {"instrument": expiry, "forward": float(price)}
    if figure == "vols":
        return post | {"vols": {str(k * price // 4): vol for k in (2, 4, 8)}}
    end = parse_expiry(expiry)
    variance = vol * vol * (end - ts) / YEAR
    return post | {"svi": {"a": variance, "b": 1e-6, "rho": 0.0, "m": 0.0, "sigma": 0.1}}


def as_posts(live: LiveMarket, told: list[tuple[str, int, int, float]]) -> list[tuple[str, Post]]:
    at, price = close_of(live), price_of(live)
    posts: list[tuple[str, Post]] = []
    steps = 0
    for kind, minute, source, factor in told:
        if source in VOLS:
            posts.append((kind, vol_quote(live, source, factor, at + minute * MINUTE)))
        elif kind == "bar":
            steps = max(steps, minute // 60) + 1
            posts.append((kind, bar(live, price * factor, steps)))
        else:
            value = factor if source == "USDT" else factor * price
            posts.append((kind, mark(str(source), value, at + minute * MINUTE)))
    return posts


@settings(max_examples=40)
@given(told=told_markets(), cuts=st.sets(st.integers(0, 25)))
def test_cut_into_posts_does_not_matter(
    market: Any, told: list[tuple[str, int, int, float]], cuts: set[int]
) -> None:
    once, cut = start(market), start(market)
    posts = as_posts(once, told)
    tell_all(once, posts, set())
    tell_all(cut, posts, cuts)
    same_head(once, cut)
    assert once.moment.quotes == cut.moment.quotes
    assert once.moment.posted_context.keys() == cut.moment.posted_context.keys()
    for open_, row in once.moment.posted_context.items():
        assert row.tobytes() == cut.moment.posted_context[open_].tobytes()


@settings(max_examples=20)
@given(told=told_markets(), cuts=st.sets(st.integers(0, 25)), saved=st.integers(1, 12))
def test_restart_and_batch_know_what_waited_and_what_was_confirmed(
    market: Any,
    told: list[tuple[str, int, int, float]],
    cuts: set[int],
    saved: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whether every quote is read again or those after a saved board only."""
    live, restarted = start(market), start(market)
    posts = as_posts(live, told)
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    with Ledger(url) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_market, "SAVED_EVERY", saved)

        def record(kind: str) -> Any:
            return ledger.append if kind == "quote" else lambda entry: ledger.append([entry])

        tell_all(live, posts, cuts, record=record)
        restarted.catch_up(ledger, CASH)
        same_head(live, restarted)
        known = live.moment.newest_known
        assert known is not None
        mine, again = live.snapshot(known).quotes, restarted.snapshot(known).quotes
        assert mine == again
        batch = recorded_quotes(ledger, market.panel.symbols, CASH, known)
        assert batch == mine
        # And what follows is judged alike.
        for name in (BTC, PERP):
            quote = mark(name, 0.62 * price_of(live), known + MINUTE)
            assert statuses(post_quotes(live, [quote])) == statuses(post_quotes(restarted, [quote]))


def test_suspect_view_holds_every_price_that_waits(market: Any) -> None:
    live = start(market)
    at = close_of(live)
    btc, eth, sol = (price_of(live, column) for column in range(3))
    symbols = live.moment.head.symbols
    post_bars(live, [bar(live, 0.6 * btc), bar(live, eth, symbol=symbols[1])])
    post_quotes(
        live,
        [
            mark(f"{symbols[1]}-PERP", 0.7 * eth, at + HOUR + MINUTE),
            mark(symbols[2], sol, at + HOUR + MINUTE),
        ],
    )
    snapshot = live.snapshot(at + HOUR + 2 * MINUTE)
    for view in (snapshot.view(), MarketSnapshot.from_content(snapshot.content()).view()):
        assert spot_marks(view).price[:3].tolist() == [btc, eth, sol]
        assert perpetual_marks(view).price[:2].tolist() == [btc, eth]
        suspect = suspect_view(view)
        assert suspect is not None
        assert spot_marks(suspect).price[:3].tolist() == [0.6 * btc, eth, sol]
        assert perpetual_marks(suspect).price[:2].tolist() == [0.6 * btc, 0.7 * eth]
        assert suspect_view(suspect) is None


def test_suspect_view_is_none_where_nothing_waits(market: Any) -> None:
    live = start(market)
    post_quotes(live, [mark(PERP, price_of(live), close_of(live))])
    assert suspect_view(live.snapshot(close_of(live)).view()) is None


def test_endpoint_answers_names_and_counts_suspect_prices(
    market: Any, serve: Any, champion: str
) -> None:
    live = start(market)
    endpoint = serve(live=live)
    at, price = close_of(live), price_of(live)
    quotes = [mark(PERP, 0.65 * price, at), mark("USDT", 1e-15, at)]
    answer = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes}).json()
    assert [result["status"] for result in answer["results"]] == ["suspect", "rejected"]
    endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": [bar(live, 2 * price)]})
    ready = endpoint.client.get("/health/ready").json()
    assert ready["status"] == "degraded"
    (reason,) = (text for text in ready["reasons"] if "suspect" in text)
    assert f"2 suspect price(s) wait for confirmation: bar of {BTC} at" in reason
    assert f"{PERP} at" in reason
    figures = endpoint.client.get("/metrics").text
    assert "margincast_suspect_prices 2.0" in figures
    assert 'margincast_quotes_total{status="suspect"} 1.0' in figures
    assert 'margincast_quotes_total{status="rejected"} 1.0' in figures


def test_impossible_marks_move_no_account(market: Any, serve: Any, champion: str) -> None:
    """A perpetual at 1e-15 gave a short account a fortune, a coin at 1e-15 gave it to anyone."""
    endpoint = serve(live=start(market))
    at = close_of(endpoint.live)
    short = {
        "account_id": "short",
        "cash": 5_000.0,
        "positions": [{"instrument": PERP, "quantity": -1.0}],
    }
    before = endpoint.score(short).json()["decisions"][0]
    quotes = [mark(PERP, 1e-15, at), mark("USDT", 1e-15, at)]
    endpoint.client.post("/v1/market/quotes", json={"quotes": quotes})
    after = endpoint.score(short).json()["decisions"][0]
    assert after["equity"] == before["equity"] == 5_000.0
    assert after["headroom"] == before["headroom"]
