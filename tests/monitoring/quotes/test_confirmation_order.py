"""Order, cut and restart do not change what the outlier filter confirms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ledger.store import Ledger
from margin.valuation.marks import YEAR
from market.core.clock import DAY, MINUTE, format_time
from market.core.instruments import parse_expiry
from monitoring.market_state import live_market
from monitoring.market_state.live_market import LiveMarket
from monitoring.recovery.recorded_quotes import recorded_quotes
from tests.monitoring.quote_helpers import (
    BTC,
    CASH,
    PERP,
    Post,
    assert_same_head,
    bar,
    board,
    close_of,
    crash,
    mark,
    post_all,
    post_quotes,
    price_of,
    quote_of,
    start,
    statuses,
)

VOLS = ("vol", "far vol", "vols", "svi", "implied_vol")


@settings(max_examples=25)
@given(data=st.data())
def test_order_of_confirmation_does_not_matter(market: Any, data: st.DataObject) -> None:
    live, shuffled = start(market), start(market)
    updates = crash(live)
    post_all(live, updates, set())
    order = data.draw(st.permutations(updates))
    post_all(shuffled, order, data.draw(st.sets(st.integers(0, len(updates)))))
    assert live.state.mark.tobytes() == shuffled.state.mark.tobytes()
    assert board(live) == board(shuffled)
    assert quote_of(live, PERP).suspect_mark is None
    assert quote_of(live, "ETHUSDT-PERP").suspect_mark is not None
    assert_same_head(live, shuffled)


@st.composite
def jumping_markets(draw: st.DrawFn) -> list[tuple[str, int, str, float]]:
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
    updates, minute = [], 0
    for source, wait, factor, noise in steps:
        minute += wait
        updates.append(("bar" if source == "bar" else "quote", minute, source, factor * noise))
    return updates


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


def as_posts(
    live: LiveMarket, updates: list[tuple[str, int, str, float]]
) -> list[tuple[str, Post]]:
    at, price = close_of(live), price_of(live)
    posts: list[tuple[str, Post]] = []
    steps = 0
    for kind, minute, source, factor in updates:
        if source in VOLS:
            posts.append((kind, vol_quote(live, source, factor, at + minute * MINUTE)))
        elif kind == "bar":
            steps = max(steps, minute // 60) + 1
            posts.append((kind, bar(live, price * factor, steps)))
        else:
            value = factor if source == "USDT" else factor * price
            posts.append((kind, mark(source, value, at + minute * MINUTE)))
    return posts


@settings(max_examples=40)
@given(updates=jumping_markets(), cuts=st.sets(st.integers(0, 25)))
def test_cut_into_posts_does_not_matter(
    market: Any, updates: list[tuple[str, int, str, float]], cuts: set[int]
) -> None:
    once, cut = start(market), start(market)
    posts = as_posts(once, updates)
    post_all(once, posts, set())
    post_all(cut, posts, cuts)
    assert_same_head(once, cut)
    assert once.state.quotes == cut.state.quotes
    assert once.state.quote_series.keys() == cut.state.quote_series.keys()
    for open_, row in once.state.quote_series.items():
        assert row.tobytes() == cut.state.quote_series[open_].tobytes()


@settings(max_examples=20)
@given(updates=jumping_markets(), cuts=st.sets(st.integers(0, 25)), saved=st.integers(1, 12))
def test_restart_and_batch_have_the_same_suspect_and_confirmed_quotes(
    market: Any,
    updates: list[tuple[str, int, str, float]],
    cuts: set[int],
    saved: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whether every quote is read again or those after a saved board only."""
    live, restarted = start(market), start(market)
    posts = as_posts(live, updates)
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    with Ledger(url) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_market, "SAVED_EVERY", saved)

        def record(kind: str) -> Any:
            return ledger.append if kind == "quote" else lambda entry: ledger.append([entry])

        post_all(live, posts, cuts, record=record)
        restarted.recover(ledger, CASH)
        assert_same_head(live, restarted)
        known = live.state.newest_known
        assert known is not None
        mine, again = live.snapshot(known).quotes, restarted.snapshot(known).quotes
        assert mine == again
        batch = recorded_quotes(ledger, market.panel.symbols, CASH, known)
        assert batch == mine
        # And what follows is filtered alike.
        for name in (BTC, PERP):
            quote = mark(name, 0.62 * price_of(live), known + MINUTE)
            assert statuses(post_quotes(live, [quote])) == statuses(post_quotes(restarted, [quote]))
