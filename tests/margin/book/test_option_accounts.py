"""Accounts with options in the array path: equal to their cases, alone and in a book."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from margin.add_on.explain import explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.book.case_batch import flatten
from margin.book.case_portfolio import Expiry, Holding, Portfolio, Underlying
from margin.book.requirement import Requirement, compute_requirement
from margin.engines.registry import compute_margins, engine_of
from margin.floors.registry import active_floors, floor_terms
from margin.rules.floors import FloorRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.account_marks import trade_price
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import HOUR, SECOND
from market.core.errors import InstrumentError, RuleSetError
from market.core.instruments import parse_expiry, parse_instrument
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

PRESETS = (
    "derive-pmrm2",
    "paradex-portfolio",
    "deribit-portfolio-like",
    "derive-srm",
    "deribit-standard",
)
AS_OF = parse_expiry("BTC-20MAR26")
NEAR, FAR = "BTC-27MAR26", "BTC-26JUN26"
VOLS = {80_000.0: 0.65, 100_000.0: 0.5, 120_000.0: 0.55}
BOARD = QuoteBoard(
    expiries={
        NEAR: ExpiryQuote(AS_OF, 100_100.0, 0.03, vols=VOLS),
        FAR: ExpiryQuote(AS_OF, 101_500.0, 0.04, svi=(0.02, 0.1, -0.3, 0.0, 0.3)),
    },
    instruments={"BTCUSDT-PERP": InstrumentQuote(AS_OF, mark=100_050.0)},
)
CALL, PUT, PERP = f"{NEAR}-100000-C", f"{NEAR}-100000-P", "BTCUSDT-PERP"

every_preset = pytest.mark.parametrize("preset", PRESETS)


@pytest.fixture
def market(make_view: Callable[..., MarketView]) -> MarketView:
    return dataclasses.replace(make_view(), as_of=AS_OF, quotes=BOARD)


def random_book(seed: int, count: int) -> list[Account]:
    rng = np.random.default_rng(seed)
    names = [PERP] + [
        f"{expiry}-{strike}-{side}"
        for expiry in (NEAR, FAR)
        for strike in (80_000, 95_000, 100_000, 120_000)
        for side in "CP"
    ]
    book = []
    for i in range(count):
        chosen = rng.permutation(names)[: rng.integers(1, 7)].tolist()
        legs = tuple(
            Position(name, float(rng.normal()), 95_000.0 if name == PERP else None)
            for name in chosen
        )
        coins = (Balance("BTC", float(rng.normal())),) if i % 3 == 0 else ()
        book.append(Account(str(i), float(rng.normal(20_000.0, 30_000.0)), legs, coins))
    return book


def margin(view: MarketView, rules: RuleSet, *accounts: Account) -> Requirement:
    found = compute_requirement(Book.of(accounts), view, rules)
    assert not found.problems
    return found


def one(view: MarketView, rules: RuleSet, cash: float, *legs: Position) -> Requirement:
    return margin(view, rules, Account("a", cash, legs))


@every_preset
def test_account_alone_has_the_bits_that_it_has_in_a_book(preset: str, market: MarketView) -> None:
    rules, accounts = load_ruleset(preset), random_book(1, 40)
    whole = margin(market, rules, *accounts)
    for i, account in enumerate(accounts):
        alone = margin(market, rules, account)
        for key in ("equity", "initial_margin", "maintenance_margin", "headroom"):
            assert getattr(alone, key)[0] == getattr(whole, key)[i], key
        legs = slice(whole.leg_start[i], whole.leg_start[i + 1])
        for key in ("leg_notional", "leg_maintenance_margin", "leg_initial_margin"):
            assert np.array_equal(getattr(alone, key), getattr(whole, key)[legs]), key


@every_preset
def test_figures_are_those_of_the_case_with_the_same_prices(
    preset: str, market: MarketView
) -> None:
    rules = load_ruleset(preset)
    accounts = [dataclasses.replace(one, collateral=()) for one in random_book(2, 30)]
    got = margin(market, rules, *accounts)
    held = got.portfolios
    for i, account in enumerate(accounts):
        first = held.start[i]
        legs = range(first, held.start[i + 1])
        vols = {held.name[leg]: float(held.vol[leg]) for leg in legs}
        portfolio = _case(account, vols)
        want = compute_margins(flatten([portfolio], rules.collateral), rules)
        assert got.headroom[i] == pytest.approx(want.maintenance_net[0], rel=1e-9, abs=1e-6)
        initial = got.equity[i] - got.initial_margin[i]
        assert initial == pytest.approx(want.initial_net[0], rel=1e-9, abs=1e-6)
        assert got.equity[i] == pytest.approx(want.mark_to_market[0], rel=1e-9, abs=1e-6)


def _case(account: Account, vols: dict[str, float]) -> Portfolio:
    def left(name: str) -> float:
        return (parse_expiry(name) - AS_OF) / SECOND

    positions = []
    for leg in account.positions:
        if leg.instrument == PERP:
            positions.append(
                Holding(
                    kind="perp",
                    underlying="BTC",
                    quantity=leg.quantity,
                    entry_price=leg.entry_price,
                )
            )
            continue
        option = parse_instrument(leg.instrument)
        positions.append(
            Holding(
                kind="option",
                underlying="BTC",
                quantity=leg.quantity,
                seconds_to_expiry=left(str(option.expiry_id)),
                strike=option.strike,
                type="call" if option.call else "put",
                vol=vols[leg.instrument],
            )
        )
    expiries = tuple(
        Expiry(left(name), quote.forward, quote.rate) for name, quote in BOARD.expiries.items()
    )
    btc = Underlying(100_000.0, perp_price=100_050.0, expiries=expiries)
    return Portfolio(account.cash, 1.0, {"BTC": btc}, tuple(positions), ())


@every_preset
def test_parts_and_positions_add_up_to_the_margins(preset: str, market: MarketView) -> None:
    rules, accounts = load_ruleset(preset), random_book(3, 30)
    got = margin(market, rules, *accounts)
    for i in range(len(accounts)):
        found = explain_engine(i, got, rules, 0.5)
        assert found is not None
        maintenance = sum(part.maintenance for part in found.parts)
        initial = sum(part.initial for part in found.parts)
        assert maintenance == pytest.approx(got.headroom[i], abs=0.005)
        assert initial == pytest.approx(got.equity[i] - got.initial_margin[i], abs=0.005)
        legs = slice(got.leg_start[i], got.leg_start[i + 1])
        charged = got.leg_maintenance_margin[legs].sum() + found.unallocated
        assert charged == pytest.approx(got.maintenance_margin[i], abs=0.005)
        assert got.equity[i] - got.maintenance_margin[i] == pytest.approx(
            got.headroom[i], abs=0.005
        )
        losses = [scenario.pnl for scenario in found.worst_scenarios]
        assert losses == sorted(losses)
        assert bool(losses) == (rules.engine == "scenario")


@every_preset
def test_overflow_is_a_problem_of_its_account_without_a_warning(
    preset: str, market: MarketView
) -> None:
    rules = load_ruleset(preset)
    table = load_ruleset("emir-ccp").floors if preset == "derive-srm" else rules.floors
    wild = [
        Account(
            f"{exponent} {name} {sign}",
            3.0 * 10.0**exponent * share,
            (Position(name, sign * 10.0**exponent * share), Position(PERP, sign)),
            (Balance("BTC", sign * 10.0**exponent),),
        )
        for exponent in (298, 300, 302, 303, 305, 308)
        for share in (1e-10, 0.01, 1.0)
        for name in (CALL, PUT, PERP)
        for sign in (1.0, -1.0)
    ]
    sound = random_book(4, 3)
    got = compute_requirement(Book.of([*sound, *wild]), market, rules)
    valued = sorted(set(range(len(sound) + len(wild))) - got.problems.keys())
    assert len(sound) < len(valued) < len(wild)
    assert min(got.problems) >= len(sound)
    alone = margin(market, rules, *sound)
    assert np.array_equal(alone.headroom, got.headroom[: len(sound)])
    assert got.options is not None
    legs = np.repeat(np.isin(np.arange(len(got.headroom)), valued), np.diff(got.leg_start))
    for greek in (got.options.value, got.options.gamma, got.options.vega, got.leg_notional):
        assert np.isfinite(greek[legs]).all()
    floors = active_floors(got, market, table)
    terms = floor_terms(got, market, table)
    assert terms.keys() == floors.keys()
    assert all(np.isfinite(floor[valued]).all() for floor in floors.values())
    got.collateral.counted()
    shares = reduction_fractions(got, rules, np.full(len(got.headroom), 1e300))
    for i in valued:
        explain_engine(i, got, rules, float(shares[i]))


@every_preset
def test_long_option_counts_at_its_full_mark(preset: str, market: MarketView) -> None:
    rules = load_ruleset(preset)
    got = one(market, rules, 100.0, Position(CALL, 2.0))
    price = trade_price(CALL, market, rules)
    assert price.premium
    assert got.options is not None
    assert got.options.value[0] == pytest.approx(2.0 * price.price)
    assert got.equity[0] == pytest.approx(100.0 + 2.0 * price.price)
    # It can lose what it is worth and no more.
    assert 0.0 < got.maintenance_margin[0] <= 2.0 * price.price * (1 + 1e-12)
    assert got.headroom[0] >= 100.0 - 1e-9


@every_preset
def test_order_and_splitting_of_positions_change_nothing(preset: str, market: MarketView) -> None:
    rules = load_ruleset(preset)
    whole = one(market, rules, 5.0, Position(CALL, -2.0), Position(PERP, 1.5, 90_000.0))
    parts = one(
        market,
        rules,
        5.0,
        Position(PERP, 0.5, 90_000.0),
        Position(CALL, -0.5),
        Position(PERP, 1.0, 90_000.0),
        Position(CALL, -1.5),
    )
    for key in ("equity", "initial_margin", "maintenance_margin", "headroom"):
        assert getattr(parts, key)[0] == pytest.approx(getattr(whole, key)[0], rel=1e-12), key
    assert parts.leg_maintenance_margin[[1, 3]].sum() == pytest.approx(
        whole.leg_maintenance_margin[0]
    )
    assert parts.leg_notional[[0, 2]].sum() == pytest.approx(whole.leg_notional[1])


def test_covered_call_needs_less_than_its_parts_under_portfolio_margin(market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    call, perp = Position(CALL, -1.0), Position(PERP, 1.0)
    both, short, long = (
        one(market, rules, 0.0, *legs) for legs in ((call, perp), (call,), (perp,))
    )
    assert both.maintenance_margin[0] < short.maintenance_margin[0] + long.maintenance_margin[0]
    assert both.maintenance_margin[0] < max(short.maintenance_margin[0], long.maintenance_margin[0])
    # The hedge is seen in the exposure too.
    assert both.leg_notional.tolist() == [short.leg_notional[0], long.leg_notional[0]]
    assert both.leg_notional[0] < 0.0 < both.leg_notional[1]


@pytest.mark.parametrize("name", [CALL, PUT, f"{FAR}-120000-C", f"{FAR}-80000-P"])
def test_exposures_are_what_moving_the_market_does(name: str, market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    legs = one(market, rules, 0.0, Position(name, -3.0))
    assert legs.options is not None

    def value(move: float, vol: float = 0.0) -> float:
        expiries = {
            key: dataclasses.replace(
                quote,
                forward=quote.forward * (1.0 + move),
                svi=None,
                vols=dict.fromkeys(VOLS, 0.5 + vol),
            )
            for key, quote in BOARD.expiries.items()
        }
        moved = dataclasses.replace(market, quotes=QuoteBoard(expiries=expiries))
        found = one(moved, rules, 0.0, Position(name, -3.0))
        assert found.options is not None
        values.append(found)
        return float(found.options.value[0])

    values: list[Requirement] = []
    h = 1e-3
    up, middle, down = value(h), value(0.0), value(-h)
    at = values[1]
    assert at.options is not None
    assert at.leg_notional[0] == pytest.approx((up - down) / (2 * h), rel=1e-4)
    assert at.options.gamma[0] == pytest.approx((up - 2 * middle + down) / h**2, rel=1e-3)
    vega = (value(0.0, 1e-4) - value(0.0, -1e-4)) / 2e-4
    assert at.options.vega[0] == pytest.approx(vega, rel=1e-5)
    assert at.gross_notional[0] == abs(at.leg_notional[0])


def test_account_of_two_underlyings_is_refused_alone_where_the_rules_know_one(
    market: MarketView,
) -> None:
    rules = load_ruleset("derive-pmrm2")
    mixed = Account("mixed", 1e6, (Position(CALL, 1.0), Position("ETHUSDT-PERP", 1.0)))
    plain = Account("plain", 1e6, (Position(CALL, 1.0),))
    got = compute_requirement(Book.of([plain, mixed, plain]), market, rules)
    assert list(got.problems) == [1]
    assert "account 'mixed'" in str(got.problems[1])
    assert np.isnan(got.headroom[1])
    assert got.headroom[0] == got.headroom[2] == margin(market, rules, plain).headroom[0]


def test_unquoted_option_is_a_problem_of_its_account_alone(market: MarketView) -> None:
    name = "BTC-25SEP26-100000-C"
    rules = load_ruleset("derive-srm")
    accounts = [Account("a", 1.0, (Position(name, 1.0),)), Account("b", 1.0, (Position(PUT, 1.0),))]
    got = compute_requirement(Book.of(accounts), market, rules)
    error = got.problems[0]
    assert isinstance(error, InstrumentError)
    assert (list(got.problems), error.instrument) == ([0], name)
    assert "post it to /v1/market/quotes" in str(error)


def test_figures_too_large_are_a_problem_of_their_account_alone(market: MarketView) -> None:
    rules = load_ruleset("derive-srm")
    accounts = [
        Account("a", 1.0, (Position(PUT, 1e305),)),
        Account("b", 1.0, (Position(PUT, 1.0),)),
    ]
    got = compute_requirement(Book.of(accounts), market, rules)
    assert list(got.problems) == [0]
    assert "exceed what float64 can hold" in str(got.problems[0])


def test_rules_that_settle_in_coin_are_refused_in_words(market: MarketView) -> None:
    content = load_ruleset("deribit-standard").content()
    content["standard"]["settlement"] = "coin"
    rules = ruleset_from_content(content)
    with pytest.raises(RuleSetError, match="settles in coin"):
        compute_requirement(Book.of([Account("a", 1.0)]), market, rules)


def test_collateral_in_coins_counts_by_what_the_engine_makes_of_it(market: MarketView) -> None:
    accounts = [
        Account("a", 10.0, (), (Balance("BTC", 2.0), Balance("X", 50.0))),
        Account("b", 10.0, (), (Balance("BTC", -2.0),)),
    ]
    for preset, share in (("derive-srm", 0.8), ("deribit-standard", 0.0)):
        got = margin(market, load_ruleset(preset), *accounts)
        assert got.collateral is not None
        assert got.equity[0] == pytest.approx(10.0 + share * 200_000.0)
        assert got.equity[0] == pytest.approx(10.0 + got.collateral.counted()[:2].sum())
        assert got.equity[1] == pytest.approx(10.0 - 200_000.0)
        assert got.maintenance_margin == pytest.approx(np.zeros(2), abs=1e-9)


@every_preset
def test_cut_share_does_what_it_says_on_the_engine(preset: str, market: MarketView) -> None:
    rules = load_ruleset(preset)
    accounts = random_book(4, 40)
    got = margin(market, rules, *accounts)
    level = np.full(len(accounts), 500.0)
    shares = reduction_fractions(got, rules, level)
    assert np.array_equal(shares == 0.0, got.headroom >= level)
    partly = np.flatnonzero((shares > 0.0) & (shares < 1.0))
    assert len(partly) >= 2
    for i in partly.tolist():
        for share, enough in ((shares[i], True), (shares[i] - 1e-3, False)):
            after = margin(market, rules, _closed(accounts[i], share, market, rules))
            assert after.equity[0] == pytest.approx(got.equity[i], rel=1e-9, abs=1e-6)
            wanted = (1.0 - share) * level[i] - (1e-6 if enough else 0.0)
            assert (after.headroom[0] >= wanted) == enough


def _closed(account: Account, share: float, view: MarketView, rules: RuleSet) -> Account:
    """The account after closing a share of everything, worked with prices alone."""
    cash, legs = account.cash, []
    for leg in account.positions:
        at = trade_price(leg.instrument, view, rules)
        worth = at.price if at.premium else at.price - float(leg.entry_price or at.price)
        cash += share * leg.quantity * worth
        legs.append(dataclasses.replace(leg, quantity=(1.0 - share) * leg.quantity))
    return dataclasses.replace(account, cash=cash, positions=tuple(legs))


def stale(view: MarketView, hours: float) -> MarketView:
    """The same market, its option quotes so old."""
    ts = AS_OF - int(hours * HOUR)
    expiries = {key: dataclasses.replace(one, ts=ts) for key, one in BOARD.expiries.items()}
    # Vols by strike, so that an older quote is not of another vol.
    del expiries[FAR]
    return dataclasses.replace(view, quotes=QuoteBoard(expiries, BOARD.instruments))


def test_floors_see_options_by_their_delta(market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    floors = FloorRules()
    option = one(market, rules, 0.0, Position(CALL, -2.0))
    quantity = option.leg_notional[0] / 100_050.0
    perp = one(market, rules, 0.0, Position(PERP, float(quantity)))
    of_option, of_perp = (active_floors(legs, market, floors) for legs in (option, perp))
    assert of_option["liquidity"][0] == pytest.approx(of_perp["liquidity"][0]) != 0.0
    assert of_option["stale_data"][0] == of_perp["stale_data"][0] == 0.0


@pytest.mark.parametrize(("hours", "counts"), [(0.0, False), (2.0, False), (2.1, True)])
def test_option_quote_older_than_two_bars_counts_as_stale(
    market: MarketView, hours: float, counts: bool
) -> None:
    rules = load_ruleset("derive-pmrm2")
    old = stale(market, hours)
    got = one(old, rules, 0.0, Position(CALL, -2.0), Position(PERP, 1.0))
    floors = active_floors(got, old, FloorRules())
    assert (floors["stale_data"][0] > 0.0) == counts
    terms = floor_terms(got, old, FloorRules())["stale_data"]
    by_leg = sum(term.amount for term in terms)
    assert (by_leg[0] > 0.0) == counts  # type: ignore[index]
    assert by_leg[1] == 0.0  # type: ignore[index]


def test_delta_neutral_options_on_stale_quotes_are_not_free_of_risk(market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    old = stale(market, 24.0)
    legs = one(old, rules, 0.0, Position(CALL, -1.0))
    hedge = Position(PERP, float(-legs.leg_notional[0] / 100_050.0))
    got = one(old, rules, 0.0, Position(CALL, -1.0), hedge)
    assert got.leg_notional.sum() == pytest.approx(0.0, abs=1e-6)
    floors = FloorRules()
    assert got.options is not None
    own = floors.stale_data
    move = 0.005 * own.confidence * np.sqrt(24.0)
    want = abs(got.leg_notional[0]) * move + 0.5 * abs(got.options.gamma[0]) * move**2
    assert active_floors(got, old, floors)["stale_data"][0] == pytest.approx(want)


def test_own_vol_that_is_old_makes_the_option_stale(market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    quotes = QuoteBoard(BOARD.expiries, {CALL: InstrumentQuote(AS_OF - 9 * HOUR, vol=0.5)})
    view = dataclasses.replace(market, quotes=quotes)
    got = one(view, rules, 0.0, Position(CALL, -2.0), Position(PUT, -2.0))
    assert got.options is not None
    assert got.options.age_hours.tolist() == [9.0, 0.0]


def test_collateral_rules_of_the_set_apply_to_books(market: MarketView) -> None:
    rules = load_ruleset("derive-pmrm2")
    collateral = msgspec.structs.replace(
        rules.collateral,
        haircuts={"BTC": 0.1},
        initial_extra_haircuts={"BTC": 0.05},
        risk_cancelling={"BTC": "BTC"},
    )
    held = Account("a", 0.0, (Position(CALL, -1.0),), (Balance("BTC", 1.0),))
    bare = Account("b", 0.0, (Position(CALL, -1.0),))
    moved = msgspec.structs.replace(rules, collateral=collateral)
    got = margin(market, moved, held, bare)
    assert got.portfolios.collateral.risk_cancelling.tolist() == [True]
    assert got.equity[0] - got.equity[1] == pytest.approx(90_000.0)
    # The coin rises with the call that is owed.
    assert got.maintenance_margin[0] < got.maintenance_margin[1]
    extra = compute_margins(got.portfolios, rules).initial["collateral_initial_extra"]
    assert extra == pytest.approx([-5_000.0, 0.0])


def test_explanation_is_parts_and_worst_scenarios(
    market: MarketView,
) -> None:
    for preset in PRESETS:
        rules = load_ruleset(preset)
        found = margin(market, rules, *random_book(8, 12))
        held, engine = found.portfolios, engine_of(rules)
        for i in range(len(held)):
            parts, worst = engine.explain(held, i, rules, 4)
            assert parts == engine.parts(held, i, rules)
            assert worst == engine.worst_scenarios(held, i, rules, 4)
