from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from market.core.clock import DAY, HOUR, MINUTE, parse_time
from market.core.errors import ConfigError, DataError
from market.simulator.population import Population, SampledAccounts, sample_population

START = parse_time("2025-01-01T01:00:00Z")
REFERENCE = Population.load("reference-v1")
FILE = Path(__file__).parents[3] / "market" / "simulator" / "populations" / "reference-v1.toml"
SYMBOLS = ("ADAUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")

Floats = npt.NDArray[np.float64]


# Drawn when reference-v1 was frozen: 3 slots of seed 7 in the first week of 2025 at price 100.
FROZEN_IDS = ["s00000-002870", "s00001-002870", "s00002-002870"]
FROZEN_SYMBOLS = [2, 3, 1, 3, 4, 0, 2, 3, 4]
FROZEN_QUANTITIES = [
    -0.012242329206978235,
    0.0009574323278007559,
    0.024343383771494937,
    -0.0359637179645917,
    0.04305633911018312,
    -0.006316261621767341,
    0.021841917555424736,
    -0.008978622001135701,
    0.010100058149729663,
]


def hours(count: int) -> npt.NDArray[np.int64]:
    return START + np.arange(count, dtype=np.int64) * HOUR


def walk(rows: int, symbols: int = 5) -> Floats:
    steps = np.random.default_rng(5).normal(0.0, 0.01, (rows, symbols))
    prices: Floats = 100.0 * np.exp(np.cumsum(steps, axis=0))
    return prices


def sample(rows: int, count: int = 200, seed: int = 7, symbols: int = 5) -> SampledAccounts:
    return sample_population(
        REFERENCE, count, seed, hours(rows), walk(rows, symbols), np.ones((rows, symbols), bool)
    )


def leg_owner(accounts: SampledAccounts) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(accounts)), np.diff(accounts.leg_start))


def leverage(accounts: SampledAccounts) -> Floats:
    notional = np.abs(accounts.leg_quantity * accounts.leg_entry_price)
    gross = np.bincount(leg_owner(accounts), weights=notional)
    return np.asarray(gross / accounts.cash, dtype=np.float64)


@pytest.fixture(scope="module")
def many() -> SampledAccounts:
    return sample(rows=168 * 26, count=1000)


def assert_same_life(one: SampledAccounts, i: int, other: SampledAccounts, j: int) -> None:
    mine = slice(one.leg_start[i], one.leg_start[i + 1])
    theirs = slice(other.leg_start[j], other.leg_start[j + 1])
    assert np.array_equal(one.leg_symbol[mine], other.leg_symbol[theirs])
    assert np.array_equal(one.leg_quantity[mine], other.leg_quantity[theirs])
    assert np.array_equal(one.leg_entry_price[mine], other.leg_entry_price[theirs])


def test_reference_figures_are_frozen() -> None:
    assert REFERENCE.sha256 == "50013eb17173fc7d43e77f65f084eec7e3186b2b23e4548876892601f2b7b0a6"


def test_reference_book_is_frozen() -> None:
    accounts = sample_population(
        REFERENCE, 3, 7, hours(168), np.full((168, 5), 100.0), np.ones((168, 5), bool)
    )
    assert [accounts.account_id(i) for i in range(3)] == FROZEN_IDS
    assert accounts.leg_symbol.tolist() == FROZEN_SYMBOLS
    np.testing.assert_allclose(accounts.leg_quantity, FROZEN_QUANTITIES, rtol=1e-12)


def test_leverage_has_the_documented_distribution(many: SampledAccounts) -> None:
    assert len(many) > 20_000
    gross = leverage(many)
    assert np.median(gross) == pytest.approx(5.0, rel=0.025)
    assert gross.min() == pytest.approx(0.5)
    assert gross.max() == pytest.approx(40.0)
    # Quartiles of a log-normal are median * exp(±0.6745 sigma).
    assert np.quantile(gross, 0.25) == pytest.approx(5.0 * np.exp(-0.6745 * 0.8), rel=0.03)
    assert np.quantile(gross, 0.75) == pytest.approx(5.0 * np.exp(0.6745 * 0.8), rel=0.03)
    assert np.mean(gross >= 40.0 * (1 - 1e-12)) == pytest.approx(0.00467, abs=0.002)


def test_coin_counts_are_uniform_from_one_to_four(many: SampledAccounts) -> None:
    share = np.bincount(np.diff(many.leg_start), minlength=5) / len(many)
    assert share[0] == 0.0
    np.testing.assert_allclose(share[1:], 0.25, atol=0.015)


def test_coins_are_chosen_uniformly_and_once(many: SampledAccounts) -> None:
    share = np.bincount(many.leg_symbol, minlength=5) / len(many.leg_symbol)
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    same_life = np.diff(leg_owner(many)) == 0
    assert (np.diff(many.leg_symbol)[same_life] > 0).all()


def test_legs_are_long_with_probability_seven_tenths_each_on_its_own(many: SampledAccounts) -> None:
    long = many.leg_quantity > 0.0
    assert long.mean() == pytest.approx(0.7, abs=0.01)
    pairs = np.flatnonzero(np.diff(many.leg_start) == 2)
    first, second = long[many.leg_start[pairs]], long[many.leg_start[pairs] + 1]
    assert np.mean(first & second) == pytest.approx(0.49, abs=0.03)


def test_weights_of_two_coins_are_those_of_exponentials(many: SampledAccounts) -> None:
    pairs = np.flatnonzero(np.diff(many.leg_start) == 2)
    notional = np.abs(many.leg_quantity * many.leg_entry_price)
    weight = notional[many.leg_start[pairs]] / leverage(many)[pairs]
    # E1 / (E1 + E2) of two exponentials is uniform.
    np.testing.assert_allclose(np.quantile(weight, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.025)


def test_draws_do_not_depend_on_one_another(many: SampledAccounts) -> None:
    counts = np.diff(many.leg_start)
    gross = np.log(leverage(many))
    for other in (counts, many.slot, many.epoch, many.leg_quantity[many.leg_start[:-1]] > 0):
        assert abs(np.corrcoef(gross, other)[0, 1]) < 0.03
    following = many.slot[1:] == many.slot[:-1]
    assert abs(np.corrcoef(gross[1:][following], gross[:-1][following])[0, 1]) < 0.03


def test_equity_is_one_at_birth(many: SampledAccounts) -> None:
    assert (many.cash == 1.0).all()
    prices = walk(168 * 26)
    opened = prices[np.repeat(many.opening_row, np.diff(many.leg_start)), many.leg_symbol]
    assert np.array_equal(many.leg_entry_price, opened)
    profit = many.leg_quantity * (opened - many.leg_entry_price)
    assert (many.cash + np.bincount(leg_owner(many), weights=profit) == 1.0).all()


def test_count_accounts_are_alive_after_the_first_week(many: SampledAccounts) -> None:
    assert {len(many.open_at(row)) for row in (167, 168, 1000, 168 * 26 - 1)} == {1000}
    assert len(many.open_at(0)) < 30
    full = many.end_row < 168 * 26
    assert set((many.end_row - many.opening_row)[full]) == {168}


def test_openings_are_spread_evenly_over_the_hours_of_a_life(many: SampledAccounts) -> None:
    openings = np.bincount(many.opening_row, minlength=168 * 26)[:168]
    assert openings.sum() == 1000
    assert openings.max() < 20


@settings(max_examples=25)
@given(
    first=st.integers(0, 500),
    length=st.integers(2, 500),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_part_of_a_span_samples_the_same_accounts(
    first: int, length: int, count: int, seed: int
) -> None:
    rows = 1000
    prices, times = walk(rows), hours(rows)
    eligible = np.random.default_rng(1).random(prices.shape) < 0.6
    whole = sample_population(REFERENCE, count, seed, times, prices, eligible)
    window = slice(first, first + length)
    part = sample_population(
        REFERENCE, count, seed, times[window], prices[window], eligible[window]
    )
    inside = np.flatnonzero((whole.opening_row >= first) & (whole.opening_row < first + length))
    assert np.array_equal(whole.slot[inside], part.slot)
    assert np.array_equal(whole.epoch[inside], part.epoch)
    assert np.array_equal(whole.opening_row[inside] - first, part.opening_row)
    assert np.array_equal(np.minimum(whole.end_row[inside] - first, length), part.end_row)
    for mine, theirs in enumerate(inside):
        assert_same_life(part, mine, whole, int(theirs))


def test_more_slots_keep_the_accounts_of_fewer() -> None:
    few, many = sample(400, count=5), sample(400, count=50)
    assert many.slot[: len(few)].max() == 4
    for account in range(len(few)):
        assert_same_life(few, account, many, account)


def test_finer_grid_holds_the_same_accounts() -> None:
    coarse = sample(300, count=20)
    times = START + np.arange(300 * 12 - 11, dtype=np.int64) * 5 * MINUTE
    prices = np.repeat(walk(300), 12, axis=0)[: len(times)]
    fine = sample_population(REFERENCE, 20, 7, times, prices, np.ones(prices.shape, bool))
    assert np.array_equal(fine.opening_row, coarse.opening_row * 12)
    assert np.array_equal(fine.leg_quantity, coarse.leg_quantity)
    ended = coarse.end_row < 300
    assert np.array_equal(fine.end_row[ended], coarse.end_row[ended] * 12)


def test_another_seed_gives_other_accounts() -> None:
    one, other = sample(400, seed=7), sample(400, seed=8)
    assert not np.array_equal(one.opening_row, other.opening_row)


def test_only_coins_eligible_at_birth_are_drawn() -> None:
    rows = 600
    eligible = np.zeros((rows, 5), bool)
    eligible[:, 1] = True
    eligible[300:, [2, 4]] = True
    prices = np.where(eligible, walk(rows), np.nan)
    accounts = sample_population(REFERENCE, 300, 7, hours(rows), prices, eligible)
    opening = np.repeat(accounts.opening_row, np.diff(accounts.leg_start))
    assert eligible[opening, accounts.leg_symbol].all()
    assert np.isfinite(accounts.leg_quantity).all()
    early = accounts.opening_row < 300
    counts = np.diff(accounts.leg_start)
    assert (counts[early] == 1).all()
    assert counts[~early].max() == 3
    # Three or four drawn of three that there are.
    assert np.mean(counts[~early] == 3) == pytest.approx(0.5, abs=0.08)


def test_accounts_without_an_eligible_coin_are_left_out() -> None:
    rows = 500
    eligible = np.zeros((rows, 5), bool)
    eligible[200:] = True
    accounts = sample_population(REFERENCE, 100, 7, hours(rows), walk(rows), eligible)
    assert accounts.opening_row.min() >= 200
    assert (np.diff(accounts.leg_start) > 0).all()
    assert len(accounts.open_at(200 + 168)) == 100
    none = sample_population(REFERENCE, 100, 7, hours(rows), walk(rows), np.zeros((rows, 5), bool))
    assert len(none) == 0
    assert len(none.book_at(10, SYMBOLS)) == 0


def test_book_holds_the_open_accounts_sorted_by_id() -> None:
    accounts = sample(400, count=30)
    book = accounts.book_at(250, SYMBOLS)
    assert len(book) == 30
    assert list(book.account_ids) == sorted(book.account_ids)
    for i, account in enumerate(accounts.open_at(250)):
        mine = slice(book.leg_start[i], book.leg_start[i + 1])
        theirs = slice(accounts.leg_start[account], accounts.leg_start[account + 1])
        assert book.account_ids[i] == accounts.account_id(int(account))
        assert accounts.opening_row[account] <= 250 < accounts.end_row[account]
        assert np.array_equal(book.leg_quantity[mine], accounts.leg_quantity[theirs])
        assert list(book.leg_instrument[mine]) == [
            f"{SYMBOLS[s]}-PERP" for s in accounts.leg_symbol[theirs]
        ]
    assert book.balance_start.tolist() == [0] * 31


def test_account_id_tells_slot_and_epoch() -> None:
    accounts = sample(400, count=13)
    last = len(accounts) - 1
    epoch = (START // HOUR + int(accounts.opening_row[last])) // 168
    assert accounts.account_id(last) == f"s00012-{epoch:06d}"


@pytest.mark.parametrize("count", [0, 100_001])
def test_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"accounts.count is {count}"):
        sample(200, count=count)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"accounts\.seed is -1"):
        sample(200, seed=-1)


@pytest.mark.parametrize(
    "times",
    [
        np.delete(hours(10), 4),
        hours(10)[::-1],
        START + np.arange(10, dtype=np.int64) * DAY,
        START + np.arange(10, dtype=np.int64) * 7 * MINUTE,
    ],
)
def test_uneven_or_coarse_grid_is_refused(times: npt.NDArray[np.int64]) -> None:
    prices = np.ones((len(times), 2))
    with pytest.raises(DataError, match="even steps that divide an hour"):
        sample_population(REFERENCE, 1, 1, times, prices, np.ones(prices.shape, bool))


def test_grid_that_misses_the_hours_is_refused() -> None:
    with pytest.raises(DataError, match="expected a multiple"):
        sample_population(
            REFERENCE, 1, 1, hours(5) + 30 * MINUTE, np.ones((5, 1)), np.ones((5, 1), bool)
        )


@pytest.mark.parametrize("price", [np.nan, np.inf, 0.0, -1.0])
def test_eligible_coin_without_a_price_is_refused(price: float) -> None:
    prices = np.ones((5, 2))
    prices[3, 1] = price
    with pytest.raises(DataError, match="symbol 1 is eligible at 2025-01-01T04:00:00Z"):
        sample_population(REFERENCE, 1, 1, hours(5), prices, np.ones((5, 2), bool))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(DataError, match="must both be"):
        sample_population(REFERENCE, 1, 1, hours(5), np.ones((4, 2)), np.ones((4, 2), bool))


@pytest.mark.parametrize("name", ["reference-v9", "../reference-v1", ""])
def test_unknown_population_is_refused_and_the_known_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match="choose one of behaving-v1, one-coin-v1, reference-v1"):
        Population.load(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("equity = 1.0", "equity = 0.0", "equity"),
        ("equity = 1.0", "equity = nan", "equity"),
        ("equity = 1.0", "", "equity"),
        ("equity = 1.0", "equity = 1.0\nwealth = 2", "wealth"),
        ("median = 5.0", "median = 50.0", "must rise"),
        ("median = 5.0", 'median = "five"', "median"),
        ("least = 1\n", "least = 9\n", "above most"),
        ("long_probability = 0.7", "long_probability = 1.7", "long_probability"),
        ('"exponential"', '"equal"', "weights"),
        ('name = "reference-v1"', 'name = "other"', "both must agree"),
        ("[legs]", "[legs", "cannot be used"),
    ],
)
def test_malformed_population_is_refused_by_file(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = FILE.read_text("utf-8")
    assert old in text
    path = tmp_path / "reference-v1.toml"
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ConfigError, match=message) as refusal:
        Population.read(path)
    assert str(path) in str(refusal.value)
