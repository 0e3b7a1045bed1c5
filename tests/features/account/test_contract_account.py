"""What every account feature promises, over all that the registry lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from features.account import adv_share, bounded_shares, distance
from features.account.frame import AccountRows, compute_aggregates, compute_features, set_headroom
from features.definition import AccountFeature
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    ADV,
    HORIZONS,
    MARKET_COLUMNS,
    VOLATILITIES,
)
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
SameBits = Callable[[Floats, Floats], bool]
MakePanel = Callable[..., BarPanel]

SYMBOLS = ("A", "B", "C", "D", "E")
FIRST_WARM, LAST = 168, 259
PRIORS = tuple(f"prior_logit_{hours}h" for hours in HORIZONS)
BOOK_VOLATILITIES = tuple(f"book_{name}" for name in VOLATILITIES)
EQUITY = tuple(feature for feature in ACCOUNT_FEATURES if feature.uses_equity)

every_feature = pytest.mark.parametrize("name", ACCOUNT_COLUMNS)
every_equity_feature = pytest.mark.parametrize("feature", EQUITY, ids=lambda f: f.name)


@dataclass(frozen=True, slots=True)
class _Holding:
    """One account in readable form."""

    row: int
    symbols: tuple[int, ...]
    notionals: tuple[float, ...]
    headroom: float
    maintenance: float = 1.0

    @property
    def gross(self) -> float:
        return sum(abs(x) for x in self.notionals)


def _rows(accounts: list[_Holding]) -> AccountRows:
    counts = [len(account.symbols) for account in accounts]
    return AccountRows(
        row=np.array([account.row for account in accounts], dtype=np.int64),
        leg_start=np.array([0, *np.cumsum(counts)], dtype=np.int64),
        leg_symbol=np.array([s for a in accounts for s in a.symbols], dtype=np.int64),
        leg_notional=np.array([x for a in accounts for x in a.notionals], dtype=np.float64),
        headroom=np.array([account.headroom for account in accounts], dtype=np.float64),
        maintenance_margin=np.array([account.maintenance for account in accounts]),
    )


def _features(accounts: list[_Holding], market: MarketFeatures) -> Floats:
    return compute_features(compute_aggregates(_rows(accounts), market))


def _column(values: Floats, name: str) -> Floats:
    return values[:, ACCOUNT_COLUMNS.index(name)]


@pytest.fixture(scope="module")
def market(make_panel: MakePanel, advance: Advance) -> MarketFeatures:
    return advance(make_panel(LAST + 1, symbols=SYMBOLS, seed=5))


@pytest.fixture(scope="module")
def accounts() -> list[_Holding]:
    rng = np.random.default_rng(9)
    book = []
    for _ in range(60):
        count = int(rng.integers(0, 6))
        notionals = rng.normal(0.3, 1.0, count) * 10.0 ** rng.uniform(0, 6)
        book.append(
            _Holding(
                row=int(rng.integers(FIRST_WARM, LAST + 1)),
                symbols=tuple(rng.permutation(5)[:count].tolist()),
                notionals=tuple(notionals.tolist()),
                headroom=float(rng.normal(0.02, 0.1) * np.abs(notionals).sum()),
            )
        )
    return book


@pytest.fixture(scope="module")
def batch(accounts: list[_Holding], market: MarketFeatures) -> Floats:
    return _features(accounts, market)


@pytest.fixture(scope="module")
def alone(accounts: list[_Holding], market: MarketFeatures) -> Floats:
    return np.concatenate([_features([account], market) for account in accounts])


_HOLDINGS = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        _Holding,
        row=st.integers(FIRST_WARM, LAST),
        symbols=st.permutations(range(5)).map(lambda p: tuple(p[:count])),
        notionals=st.tuples(*[st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3)] * count),
        headroom=st.integers(-(10**8), 10**8).map(lambda cents: cents / 100.0),
    )
)


@every_feature
def test_account_alone_equals_itself_in_a_batch(
    name: str, batch: Floats, alone: Floats, same_bits: SameBits
) -> None:
    assert same_bits(_column(batch, name), _column(alone, name))


@given(order=st.permutations(range(60)))
def test_order_of_accounts_does_not_matter(
    order: list[int],
    accounts: list[_Holding],
    market: MarketFeatures,
    batch: Floats,
    same_bits: SameBits,
) -> None:
    assert same_bits(_features([accounts[i] for i in order], market), batch[order])


@every_feature
def test_order_of_positions_does_not_matter_beyond_rounding(
    name: str, accounts: list[_Holding], market: MarketFeatures, batch: Floats
) -> None:
    turned = [
        dataclasses.replace(a, symbols=a.symbols[::-1], notionals=a.notionals[::-1])
        for a in accounts
    ]
    got = _column(_features(turned, market), name)
    np.testing.assert_allclose(got, _column(batch, name), rtol=1e-9, atol=1e-9)


@every_feature
def test_leg_of_no_size_changes_nothing_whatever_its_symbol_lacks(
    name: str, market: MarketFeatures, same_bits: SameBits
) -> None:
    """Training keeps collateral as such a leg, the endpoint does not."""
    values = market.values.copy()
    values[:, 4] = np.nan
    blank = dataclasses.replace(market, values=values)
    alone = _Holding(LAST, (1, 2), (300.0, -100.0), 50.0)
    beside = dataclasses.replace(alone, symbols=(4, 1, 2), notionals=(0.0, 300.0, -100.0))
    got, expected = _features([beside], blank), _features([alone], blank)
    assert same_bits(_column(got, name), _column(expected, name))


@every_feature
def test_subset_of_columns_equals_all_of_them(
    name: str,
    accounts: list[_Holding],
    market: MarketFeatures,
    batch: Floats,
    same_bits: SameBits,
) -> None:
    aggregates = compute_aggregates(_rows(accounts), market)
    only = compute_features(aggregates, [name])
    assert only.flags.c_contiguous
    assert same_bits(only[:, 0], _column(batch, name))


@every_equity_feature
def test_feature_of_equity_is_monotone(feature: AccountFeature) -> None:
    assert feature.monotone in (-1, 1)


@every_feature
def test_only_features_of_equity_move_with_headroom(
    name: str,
    accounts: list[_Holding],
    market: MarketFeatures,
    batch: Floats,
    same_bits: SameBits,
) -> None:
    deposited = [dataclasses.replace(a, headroom=a.headroom + 0.05 * a.gross) for a in accounts]
    moved = _column(_features(deposited, market), name)
    uses_equity = name in {feature.name for feature in EQUITY}
    assert same_bits(moved, _column(batch, name)) is not uses_equity


@every_equity_feature
@given(account=_HOLDINGS, deposits=st.lists(st.floats(1e-3, 2e6), min_size=1, max_size=8))
def test_deposit_moves_feature_in_its_declared_direction(
    feature: AccountFeature, account: _Holding, deposits: list[float], market: MarketFeatures
) -> None:
    headrooms = account.headroom + np.cumsum([0.0, *deposits])
    path = [dataclasses.replace(account, headroom=float(h)) for h in headrooms]
    column = _column(_features(path, market), feature.name)
    # Monotone is the direction of the probability, which falls with every deposit.
    assert (-feature.monotone * np.diff(column) >= 0.0).all()


@every_equity_feature
def test_deposit_across_zero_headroom_moves_feature_in_its_declared_direction(
    feature: AccountFeature, market: MarketFeatures
) -> None:
    account = _Holding(200, (0, 3), (60.0, -40.0), 0.0)
    near = np.geomspace(1e-12, 50.0, 60)
    headrooms = np.concatenate([-near[::-1], [-0.0, 0.0], near])
    path = [dataclasses.replace(account, headroom=float(h)) for h in headrooms]
    column = _column(_features(path, market), feature.name)
    steps = -feature.monotone * np.diff(column)
    assert (steps >= 0.0).all()
    assert steps.max() > 0.0


@given(seed=st.integers(0, 2**32 - 1))
def test_set_headroom_equals_recomputation(
    seed: int,
    accounts: list[_Holding],
    market: MarketFeatures,
    batch: Floats,
    same_bits: SameBits,
) -> None:
    headroom = np.random.default_rng(seed).normal(0.0, 10.0, len(accounts))
    expected = [
        dataclasses.replace(a, headroom=float(h)) for a, h in zip(accounts, headroom, strict=True)
    ]
    aggregates, values = compute_aggregates(_rows(accounts), market), batch.copy()
    set_headroom(aggregates, values, ACCOUNT_COLUMNS, headroom)
    assert same_bits(values, _features(expected, market))
    assert same_bits(aggregates, compute_aggregates(_rows(expected), market))


def _louder(market: MarketFeatures, name: str, factor: float) -> MarketFeatures:
    values = market.values.copy()
    values[:, :, MARKET_COLUMNS.index(name)] *= factor
    return dataclasses.replace(market, values=values)


@pytest.mark.parametrize("volatility", VOLATILITIES)
@given(account=_HOLDINGS, factor=st.floats(1.0, 20.0))
def test_more_volatility_never_lowers_book_volatility_or_prior(
    volatility: str, account: _Holding, factor: float, market: MarketFeatures
) -> None:
    before = _features([account], market)
    after = _features([account], _louder(market, volatility, factor))
    for name in (*BOOK_VOLATILITIES, *PRIORS):
        slack = 1e-12 * (1.0 + abs(_column(before, name)))
        assert (_column(after, name) >= _column(before, name) - slack).all(), name
    for name in VOLATILITIES:
        rise = _column(after, f"distance_{name}") - _column(before, f"distance_{name}")
        assert (rise <= 1e-12 * distance.LIMIT).all(), name


@pytest.mark.parametrize("volatility", VOLATILITIES)
def test_each_volatility_reaches_its_own_features(volatility: str, market: MarketFeatures) -> None:
    account = _Holding(200, (0, 1), (50.0, 50.0), 1.0)
    louder = _louder(market, volatility, 2.0)
    before, after = _features([account], market)[0], _features([account], louder)[0]
    at = ACCOUNT_COLUMNS.index
    assert after[at(f"book_{volatility}")] == pytest.approx(2.0 * before[at(f"book_{volatility}")])
    assert after[at(f"distance_{volatility}")] == pytest.approx(
        0.5 * before[at(f"distance_{volatility}")]
    )
    others = [f"{kind}_{name}" for name in VOLATILITIES for kind in ("book", "distance")]
    still = [at(name) for name in others if not name.endswith(volatility)]
    assert (after[still] == before[still]).all()


@every_feature
@pytest.mark.parametrize("headroom", [-5.0, -0.0, 0.0, 1e-12, 5.0, 1e300])
def test_flat_account_is_finite(name: str, headroom: float, market: MarketFeatures) -> None:
    account = _Holding(200, (), (), headroom, maintenance=0.0)
    assert np.isfinite(_column(_features([account], market), name)).all()


@every_feature
def test_position_in_a_market_that_does_not_trade_is_not_infinite(
    name: str, market: MarketFeatures
) -> None:
    values = market.values.copy()
    values[:, 0, MARKET_COLUMNS.index(ADV)] = 0.0
    account = _Holding(200, (0, 1), (50.0, 50.0), 1.0)
    got = _column(_features([account], dataclasses.replace(market, values=values)), name)
    assert np.isfinite(got).all()
    if name == "adv_share":
        assert got[0] == pytest.approx(np.log(adv_share.LIMIT))


@every_feature
def test_warm_up_is_nan_or_finite_never_infinite(name: str, market: MarketFeatures) -> None:
    cold = _column(_features([_Holding(2, (0, 1), (50.0, -20.0), 1.0)], market), name)
    assert not np.isinf(cold).any()
    (feature,) = [feature for feature in ACCOUNT_FEATURES if feature.name == name]
    assert np.isnan(cold[0]) == bool(feature.inputs)


@every_feature
@given(account=_HOLDINGS, power=st.integers(-20, 20))
def test_currency_of_the_account_does_not_matter(
    name: str, account: _Holding, power: int, market: MarketFeatures
) -> None:
    # Powers of two scale without rounding.
    factor = 2.0**power
    scaled = dataclasses.replace(
        account,
        notionals=tuple(x * factor for x in account.notionals),
        headroom=account.headroom * factor,
        maintenance=account.maintenance * factor,
    )
    before, after = (_column(_features([a], market), name)[0] for a in (account, scaled))
    if name == "adv_share":  # the one feature of absolute size
        if account.symbols and abs(after) < np.log(adv_share.LIMIT) and min(before, after) > -20.0:
            assert after - before == pytest.approx(power * np.log(2.0), abs=1e-3)
    else:
        assert after == pytest.approx(before, rel=1e-12, abs=1e-12)


def test_hedged_book_has_no_volatility(market: MarketFeatures) -> None:
    account = _Holding(200, (2, 2), (123.456, -123.456), 1.0)
    values = _features([account], market)
    for name in BOOK_VOLATILITIES:
        assert _column(values, name)[0] == 0.0
    assert _column(values, "net_share")[0] == 0.0
    assert _column(values, "headroom_share")[0] == pytest.approx(1.0 / 246.912)


def test_book_of_two_by_hand(market: MarketFeatures) -> None:
    x, y, t = 300.0, -100.0, 220
    values = _features([_Holding(t, (1, 4), (x, y), 12.0)], market)[0]
    row = dict(zip(ACCOUNT_COLUMNS, values.tolist(), strict=True))
    rho = market.correlation[t, 1, 4]
    for name in VOLATILITIES:
        a, b = market.column(name)[t, [1, 4]]
        sigma = float(np.sqrt((x * a) ** 2 + (y * b) ** 2 + 2.0 * rho * x * a * y * b))
        assert row[f"book_{name}"] == pytest.approx(sigma / 400.0, rel=1e-12)
        assert row[f"distance_{name}"] == pytest.approx(12.0 / sigma, rel=1e-12)
    assert row["headroom_share"] == pytest.approx(12.0 / 400.0)
    assert row["net_share"] == pytest.approx(0.5)
    assert row["herfindahl"] == pytest.approx((300.0**2 + 100.0**2) / 400.0**2)
    returns = market.column("trailing_return_24h")[t, [1, 4]]
    assert row["book_return"] == pytest.approx((x * returns[0] + y * returns[1]) / 400.0)
    days = max(300.0 / market.column(ADV)[t, 1], 100.0 / market.column(ADV)[t, 4])
    assert row["adv_share"] == pytest.approx(np.log(1e-12 + days), rel=1e-12)
    mean = market.column("mean_correlation")[t, [1, 4]]
    assert row["book_mean_correlation"] == pytest.approx(0.75 * mean[0] + 0.25 * mean[1])


def test_market_exposure_is_that_of_the_symbol_and_of_its_short(market: MarketFeatures) -> None:
    long, short = _Holding(200, (2,), (10.0,), 1.0), _Holding(200, (2,), (-10.0,), 1.0)
    expected = market.column("market_correlation")[200, 2]
    exposure = _column(_features([long, short], market), "market_exposure")
    np.testing.assert_allclose(exposure, [expected, -expected], rtol=1e-12)


def test_headroom_share_is_bounded_without_positions(market: MarketFeatures) -> None:
    flat = [_Holding(200, (), (), h) for h in (-1.0, 0.0, 1.0)]
    limit = bounded_shares.LIMIT
    got = _column(_features(flat, market), "headroom_share")
    assert got.tolist() == [-limit, -limit, limit]
