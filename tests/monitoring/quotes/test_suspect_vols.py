"""Quoted vols and surfaces and the outlier filter: what waits, what confirms it, what counts."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from decisions.book_scoring import value_book
from decisions.replay import replay
from features.state.market_state import MarketState
from features.state.point_in_time import advance_through
from margin.rules.history import load_history
from margin.rules.ruleset import load_ruleset
from margin.valuation.marks import YEAR, option_vol, suspect_view
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.bars.history import MarketHistory
from market.bars.outlier_filter import LAST, OutlierFilter
from market.bars.panel import CLOSE
from market.core.clock import DAY, MINUTE, format_time
from market.core.instruments import parse_expiry
from market.quotes.quotes import QuoteBoard
from market.sources.http import QuoteIn, quote_updates
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.market_state.live_market import LiveMarket
from monitoring.quotes.messages import QuotesResponse

BTC = "BTCUSDT"
GUARD = OutlierFilter()

Post = dict[str, Any]


@pytest.fixture
def live(market: Any) -> LiveMarket:
    return start(market)


def start(market: Any) -> LiveMarket:
    history = MarketHistory.from_panel(market.panel.rows(0, 220), GUARD)
    assert history.end is not None
    state = MarketState(history.bars.symbols, history.bars.interval)
    features = advance_through(state, history.bars, None)
    outlier_filter = history.end.state.copy()
    outlier_filter[:, LAST] = history.bars.values[-1, :, CLOSE]
    recent = history.bars.rows(-len(history.end.recent_bars), None)
    return LiveMarket(state, history.last_mark(-1), features, recent, GUARD, outlier_filter)


def post(live: LiveMarket, minute: float, *quotes: Post, **rest: Any) -> QuotesResponse:
    ts = format_time(at(live, minute))
    timed = [{"ts": ts, **quote} for quote in quotes]
    return live.post_quotes(
        quote_updates(msgspec.convert(timed, list[QuoteIn]), rest.get("now")).updates,
        cash_assets=frozenset(),
        **rest,
    )


def statuses(response: QuotesResponse) -> list[str]:
    return [result.status for result in response.results]


def at(live: LiveMarket, minute: float) -> int:
    assert live.newest_close is not None
    return live.newest_close + round(minute * MINUTE)


def price(live: LiveMarket) -> int:
    return round(float(live.state.mark[0]))


def expiry(live: LiveMarket, days: int = 20) -> str:
    day = np.datetime64(at(live, 0) + days * DAY, "ns").astype("datetime64[s]").item()
    return f"BTC-{day.day}{day:%b%y}".upper()


def option(live: LiveMarket, moneyness: float = 1.0) -> str:
    return f"{expiry(live)}-{round(moneyness * price(live))}-C"


def own(live: LiveMarket, vol: float, moneyness: float = 1.0) -> Post:
    return {"instrument": option(live, moneyness), "vol": vol}


def vols(live: LiveMarket, vol: float, days: int = 20, **others: float) -> Post:
    """A flat surface at three strikes, 50%, 100% and 200% of the forward, but for `others`."""
    by_name = {"low": 0.5, "middle": 1.0, "high": 2.0}
    by_strike = {
        str(round(share * price(live))): others.get(name, vol) for name, share in by_name.items()
    }
    forward = float(price(live))
    return {"instrument": expiry(live, days), "forward": forward, "vols": by_strike}


def svi(live: LiveMarket, vol: float, b: float = 1e-6, days: int = 20, minute: float = 0) -> Post:
    name = expiry(live, days)
    variance = vol * vol * (parse_expiry(name) - at(live, minute)) / YEAR
    parameters = {"a": variance - 0.1 * b, "b": b, "rho": 0.0, "m": 0.0, "sigma": 0.1}
    return {"instrument": name, "forward": float(price(live)), "svi": parameters}


def board(live: LiveMarket, minute: float) -> QuoteBoard:
    found = live.snapshot(at(live, minute)).quotes
    assert found is not None
    return found


def view(live: LiveMarket, minute: float) -> MarketView:
    return live.snapshot(at(live, minute)).view()


def vol_in_force(found: MarketView, live: LiveMarket) -> float | None:
    """Vol of the option at the money, on a view's board."""
    assert found.quotes is not None
    name = expiry(live)
    quoted = found.quotes.instruments.get(option(live))
    vol = option_vol(price(live), parse_expiry(name), quoted, found.quotes.expiries[name])
    return None if vol is None else vol[0]


FORMS = pytest.mark.parametrize("form", [own, vols, svi])


@FORMS
@pytest.mark.parametrize("level", [0.5 * 5.1, 9.99, 0.5 / 5.1, 1e-9])
def test_impossible_vol_is_rejected(live: LiveMarket, form: Any, level: float) -> None:
    """A vol of 10 a minute after one of 0.5 was applied: equity went from 54,787 to 128,020."""
    post(live, 0, vols(live, 0.5))
    assert statuses(post(live, 0, form(live, 0.5)))[0] in ("applied", "duplicate")
    response = post(live, 1, form(live, level))
    assert statuses(response) == ["rejected"]
    assert "from the last good vol 0.5" in str(
        response.results[0].detail
    ) or "at the strike" in str(response.results[0].detail)
    assert vol_in_force(view(live, 1), live) == pytest.approx(0.5)
    assert suspect_view(view(live, 1)) is None


@FORMS
def test_first_vol_is_compared_with_the_surfaces_of_others(live: LiveMarket, form: Any) -> None:
    """An option against its surface, a surface against the next expiry."""
    post(live, 0, vols(live, 0.5, days=20 if form is own else 30))
    assert statuses(post(live, 1, form(live, 0.5 * 5.1))) == ["rejected"]
    assert statuses(post(live, 1, form(live, 0.5 * 2.1))) == ["suspect"]
    assert statuses(post(live, 2, form(live, 0.5 * 1.9))) == ["applied"]


def test_first_surface_is_compared_with_the_vol_index(live: LiveMarket) -> None:
    post(live, 0, {"instrument": BTC, "implied_vol": 0.5})
    assert statuses(post(live, 1, vols(live, 2.6))) == ["rejected"]
    assert statuses(post(live, 1, vols(live, 1.1))) == ["suspect"]
    assert statuses(post(live, 2, vols(live, 0.6))) == ["applied"]


def test_first_surface_of_all_and_one_of_another_tenor_are_good(live: LiveMarket) -> None:
    assert statuses(post(live, 0, vols(live, 0.2, days=1))) == ["applied"]
    assert statuses(post(live, 0, vols(live, 0.5, days=20))) == ["applied"]


@pytest.mark.parametrize("b", [30.0, 300.0])
def test_surface_with_wings_beyond_the_hard_band_is_rejected(live: LiveMarket, b: float) -> None:
    """At the money they are as before."""
    post(live, 0, svi(live, 0.5))
    wide = svi(live, 0.5, minute=1)
    wide["svi"] |= {"b": b, "a": wide["svi"]["a"] - 1e-3 * b, "sigma": 1e-3}
    assert statuses(post(live, 1, wide)) == ["rejected"]
    response = post(live, 1, vols(live, 0.5, high=2.6))
    assert statuses(response) == ["rejected"]
    assert "2.6 at the strike" in str(response.results[0].detail)
    assert statuses(post(live, 1, vols(live, 0.5, high=2.4))) == ["applied"]


def test_strikes_beyond_those_of_the_surface_in_force_may_have_any_vol(live: LiveMarket) -> None:
    post(live, 0, {**vols(live, 0.3), "vols": {str(price(live)): 0.3}})
    assert statuses(post(live, 1, vols(live, 0.3, low=1.8))) == ["applied"]


@FORMS
def test_suspect_vol_leaves_the_last_good_one_and_drives_the_second_valuation(
    live: LiveMarket, form: Any
) -> None:
    post(live, 0, vols(live, 0.5))
    post(live, 0, form(live, 0.5))
    assert statuses(post(live, 1, form(live, 1.2))) == ["suspect"]
    assert vol_in_force(view(live, 1), live) == pytest.approx(0.5)
    for found in (view(live, 1), live.snapshot(at(live, 1)).view()):
        other = suspect_view(found)
        assert other is not None
        assert vol_in_force(other, live) == pytest.approx(1.2, rel=1e-4)
        assert suspect_view(other) is None
    content = board(live, 1).content
    assert QuoteBoard.from_content(msgspec.json.decode(msgspec.json.encode(content))) == board(
        live, 1
    )
    # Nothing is known of it by then.
    assert suspect_view(view(live, 0.5)) is None
    # And it is forgotten once it is old, or with the next good quote.
    assert suspect_view(view(live, 121)) is not None
    assert suspect_view(view(live, 122)) is None
    assert statuses(post(live, 2, form(live, 0.51))) == ["applied"]
    assert suspect_view(view(live, 2)) is None


@FORMS
def test_lower_headroom_counts_while_a_vol_waits(live: LiveMarket, form: Any) -> None:
    post(live, 0, vols(live, 0.5))
    post(live, 0, form(live, 0.5))
    post(live, 1, form(live, 1.2))
    ruleset = load_ruleset("derive-srm")
    accounts = [
        Account(name, 2.0 * price(live), (Position(option(live), quantity),))
        for name, quantity in (("short", -1.0), ("long", 1.0))
    ]
    valuations = value_book(Book.of(accounts), view(live, 1), ruleset)
    assert valuations.suspect is not None
    assert valuations.suspect_drives.tolist() == [True, False]
    assert valuations.suspect.equity[0] < valuations.last_good.equity[0]


@FORMS
def test_vol_that_stays_is_confirmed_by_time_and_an_echo_is_not(
    live: LiveMarket, form: Any
) -> None:
    post(live, 0, vols(live, 0.5))
    post(live, 0, form(live, 0.5))
    repeated = form(live, 1.2)
    for minute in (1, 4, 7, 60):
        assert statuses(post(live, minute, repeated)) == ["suspect"]
    assert statuses(post(live, 61, form(live, 1.21))) == ["applied"]
    assert vol_in_force(view(live, 61), live) == pytest.approx(1.21, rel=1e-2)


def test_index_that_doubles_over_a_day_and_its_surface_pass(live: LiveMarket) -> None:
    for hour in range(25):
        vol = 0.5 * 2.0 ** (hour / 24)
        quotes = ({"instrument": BTC, "implied_vol": vol}, vols(live, vol), own(live, vol))
        assert statuses(post(live, 55 * hour, *quotes)) == ["applied"] * 3


@pytest.mark.parametrize("surface", [vols, svi])
@pytest.mark.parametrize("surface_first", [True, False])
def test_surface_and_option_at_the_money_confirm_each_other(
    live: LiveMarket, surface: Any, surface_first: bool
) -> None:
    post(live, 0, vols(live, 0.5), own(live, 0.5), own(live, 0.5, 1.5))
    quotes = [surface(live, 1.2), own(live, 1.25)]
    quotes = quotes if surface_first else quotes[::-1]
    assert statuses(post(live, 1, own(live, 1.22, 1.5), quotes[0])) == ["suspect"] * 2
    entries: list[Any] = []
    response = post(live, 2, quotes[1], record=entries.extend)
    assert statuses(response) == ["applied"]
    assert "confirmed by a second source" in str(response.results[0].detail)
    assert len(entries[0].payload["confirmed"]) == 3, "the option away from the money too"
    assert suspect_view(view(live, 2)) is None
    assert vol_in_force(view(live, 2), live) == 1.25
    # As of its time it was suspect.
    assert vol_in_force(view(live, 1.5), live) == 0.5
    assert suspect_view(view(live, 1.5)) is not None


@pytest.mark.parametrize("index_first", [True, False])
def test_index_confirms_a_surface(live: LiveMarket, index_first: bool) -> None:
    post(live, 0, vols(live, 0.5))
    quotes = [{"instrument": BTC, "implied_vol": 1.15}, vols(live, 1.2)]
    for minute, quote in enumerate(quotes if index_first else quotes[::-1], 1):
        post(live, minute, quote)
    assert suspect_view(view(live, 2)) is None
    assert vol_in_force(view(live, 2), live) == 1.2


def test_option_away_from_the_money_confirms_no_surface(live: LiveMarket) -> None:
    post(live, 0, vols(live, 0.5))
    assert statuses(post(live, 1, vols(live, 1.2), own(live, 1.2, 1.5))) == ["suspect"] * 2


def test_marks_near_a_strike_confirm_no_surface(live: LiveMarket) -> None:
    """The first number of a surface is a strike."""
    post(live, 0, {**vols(live, 0.5), "vols": {str(price(live)): 0.5}})
    suspect = {**vols(live, 1.2), "vols": {str(price(live)): 1.2}}
    assert statuses(post(live, 1, suspect)) == ["suspect"]
    post(live, 2, {"instrument": BTC, "mark": price(live)})
    assert vol_in_force(view(live, 2), live) == 0.5


def test_suspect_vols_are_named_with_their_level(live: LiveMarket) -> None:
    post(live, 0, vols(live, 0.5), own(live, 0.5))
    post(live, 1, vols(live, 1.2), own(live, 1.5))
    assert live.state.suspect_prices == [
        (f"surface of {expiry(live)}", pytest.approx(1.2), at(live, 1)),
        (f"vol of {option(live)}", 1.5, at(live, 1)),
    ]


@settings(max_examples=30)
@given(data=st.data())
def test_order_of_confirmation_does_not_matter(market: Any, data: st.DataObject) -> None:
    factors = data.draw(
        st.lists(st.sampled_from([1.0, 2.4, 2.5, 3.2]), min_size=5, max_size=5), label="factors"
    )
    live, shuffled = start(market), start(market)

    def quotes(of: LiveMarket) -> list[tuple[int, Post]]:
        near, far, surface, later, index = factors
        return [
            (1, own(of, 0.5 * near)),
            (2, own(of, 0.5 * far, 1.5)),
            (3, vols(of, 0.5 * surface)),
            (4, own(of, 0.5 * later, 1.02)),
            (5, {"instrument": BTC, "implied_vol": 0.5 * index}),
        ]

    order = data.draw(st.permutations(range(5)), label="order")
    for one, rank in ((live, range(5)), (shuffled, order)):
        before = (own(one, 0.5), own(one, 0.5, 1.5), own(one, 0.5, 1.02))
        post(one, 0, vols(one, 0.5), *before)
        posts = quotes(one)
        for i in rank:
            post(one, posts[i][0], posts[i][1])
    assert board(live, 5) == board(shuffled, 5)
    assert live.state.suspect_prices == shuffled.state.suspect_prices


def test_hours_widen_the_band_of_a_vol_like_that_of_a_price(live: LiveMarket) -> None:
    post(live, 0, vols(live, 0.5))
    assert statuses(post(live, 60, vols(live, 1.1))) == ["suspect"]
    assert statuses(post(live, 240, vols(live, 1.15))) == ["applied"]


def test_vol_of_days_ago_gives_way_to_the_newer_surface(live: LiveMarket) -> None:
    """An option that is quoted rarely would stay at its old level for good."""
    post(live, -26 * 60, own(live, 2.0))
    assert statuses(post(live, -1, own(live, 0.38))) == ["rejected"]
    post(live, -1, vols(live, 0.4))
    assert statuses(post(live, 0, own(live, 0.38))) == ["applied"]
    assert statuses(post(live, 1, own(live, 2.1))) == ["rejected"]


def test_decisions_follow_the_lower_headroom_and_replay(
    serve: Any, champion: str, bundles: Any, live: LiveMarket
) -> None:
    endpoint = serve(live=live, rules=load_history("derive-srm"))
    books = [
        {
            "account_id": name,
            "cash": 2.0 * price(live),
            "positions": [{"instrument": option(live), "quantity": quantity}],
        }
        for name, quantity in (("short", -1.0), ("long", 1.0))
    ]

    def decide(minute: int, *quotes: Post) -> tuple[list[str], list[dict[str, Any]]]:
        timed = [{"ts": format_time(at(live, minute)), **quote} for quote in quotes]
        answer = endpoint.client.post("/v1/market/quotes", json={"quotes": timed}).json()
        decisions = endpoint.score(*books).json()["decisions"]
        for decision in decisions:
            found = replay(
                endpoint.ledger,
                decision["decision_id"],
                lambda sha: Forecaster(load_bundle(bundles.root / sha)),
            )
            assert found.equal, found.differences
        return [result["status"] for result in answer["results"]], decisions

    _, before = decide(0, vols(live, 0.5), own(live, 0.5))
    status, after = decide(1, own(live, 9.9), vols(live, 9.9))
    assert status == ["rejected"] * 2
    assert [d["equity"] for d in after] == [d["equity"] for d in before]
    for quote in (own(live, 1.3), vols(live, 2.0)):
        status, (short, long) = decide(2, quote)
        assert status == ["suspect"]
        assert short["headroom"] < before[0]["headroom"]
        assert long["equity"] == pytest.approx(before[1]["equity"], rel=1e-3)
    _, (short, _) = decide(3, own(live, 0.5), vols(live, 0.5))
    assert short["equity"] == pytest.approx(before[0]["equity"], rel=1e-3)
