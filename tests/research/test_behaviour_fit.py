from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

from market.accounts.account_files import CLOSED
from market.bars.panel import CLOSE
from market.core.clock import Interval
from market.core.errors import DataError
from market.simulator.account_behaviour import (
    DEPOSIT,
    KINDS,
    REDUCTION,
    WITHDRAWAL,
    simulate_behaviour,
)
from market.simulator.behaviour_rates import Hazard
from market.simulator.population import Population, sample_population
from market.simulator.simulated_market import simulate_bars
from research.simulator_fit.behaviour_fit import (
    ExchangeRecords,
    Exposures,
    exposures_of_accounts,
    exposures_of_records,
    fit_rates,
)
from research.simulator_fit.exchange_files import read_exchange_records

BEHAVIOUR = Population.load("behaving-v1").behaviour
assert BEHAVIOUR is not None
HAZARDS: dict[str, Hazard] = {
    CLOSED: BEHAVIOUR.closing,
    REDUCTION: BEHAVIOUR.reduction,
    DEPOSIT: BEHAVIOUR.top_up,
    WITHDRAWAL: BEHAVIOUR.withdrawal,
}


def records() -> ExchangeRecords:
    """One user: pays in 100, buys 2 at 100 (leverage 2), the price falls to 90, he pays in 40,
    sells 1 of 2, and sells the rest when it is back at 100."""
    return ExchangeRecords(
        trade_hour=np.array([1, 2, 4, 5, 6]),
        trade_user=np.array([0, 1, 0, 1, 0]),
        trade_coin=np.zeros(5, dtype=np.int64),
        trade_quantity=np.array([2.0, 1.0, -1.0, 1.0, -1.0]),
        trade_price=np.array([100.0, 90.0, 90.0, 100.0, 100.0]),
        transfer_hour=np.array([0, 0, 3, 7]),
        transfer_user=np.array([0, 1, 0, 0]),
        transfer_usd=np.array([100.0, 1e6, 40.0, -130.0]),
        liquidation_hour=np.array([], dtype=np.int64),
        liquidation_user=np.array([], dtype=np.int64),
    )


def hours_of_user(found: Exposures) -> np.ndarray:
    return np.flatnonzero(found.leverage > 0.05 * 5.0)


def test_an_account_is_rebuilt_hour_by_hour() -> None:
    found = exposures_of_records(records())
    user_hours = hours_of_user(found)
    # Open at the ends of hours 1 to 5: equity 100, 80, 120, 120, 130 and notional 200, 180, 180,
    # 90, 100.
    np.testing.assert_allclose(
        found.leverage[user_hours], [2.0, 180 / 80, 180 / 120, 90 / 120, 100 / 130]
    )
    loss, gain = found.covariates[user_hours, 1], found.covariates[user_hours, 2]
    np.testing.assert_allclose(loss, [0.0, 0.2, 0.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(gain, [0.0, 0.0, 0.0, 0.0, 10 / 120], atol=1e-12)
    np.testing.assert_allclose(found.size[DEPOSIT][user_hours], [0.0, 40 / 80, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(found.size[REDUCTION][user_hours], [0.0, 0.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(found.size[CLOSED][user_hours], [0.0, 0.0, 0.0, 0.0, 1.0])
    assert not found.events[WITHDRAWAL].any()


def test_liquidated_hours_are_left_out() -> None:
    forced = replace(records(), liquidation_hour=np.array([6]), liquidation_user=np.array([0]))
    found = exposures_of_records(forced)
    assert not found.events[CLOSED].any()
    assert len(hours_of_user(found)) == 4


def test_rates_agree_with_statsmodels() -> None:
    rng = np.random.default_rng(3)
    covariates = np.column_stack([rng.normal(0.0, 0.8, 60_000), rng.exponential(0.1, (60_000, 2))])
    truth = np.array([0.4, 2.0, -1.5])
    happened = rng.random(60_000) < np.exp(-3.0 + covariates @ truth)
    found = fit_rates(Exposures(covariates, {CLOSED: happened}, {CLOSED: happened * 1.0}))[CLOSED]
    theirs = sm.GLM(
        happened.astype(float), sm.add_constant(covariates), family=sm.families.Poisson()
    ).fit()
    assert found.events == happened.sum()
    assert np.log(found.rate) == pytest.approx(theirs.params[0], abs=0.01)
    np.testing.assert_allclose(found.slopes, theirs.params[1:], atol=0.03)
    np.testing.assert_allclose(found.errors, theirs.bse[1:], rtol=0.05)


def test_hazards_of_sampled_accounts_are_recovered() -> None:
    population = Population.load("behaving-v1")
    bars = simulate_bars(1, 60, 6, Interval.parse("1h"))
    mark = bars.values[:, :, CLOSE]
    accounts = sample_population(
        population, 150, 7, bars.closes, mark, np.ones(mark.shape, dtype=bool)
    )
    assert population.behaviour is not None
    rates = fit_rates(
        exposures_of_accounts(
            simulate_behaviour(accounts, population.behaviour, 7, bars.closes, mark), mark
        )
    )
    for kind in (CLOSED, REDUCTION, DEPOSIT):  # a withdrawal needs free equity besides
        found, hazard = rates[kind], HAZARDS[kind]
        assert found.rate == pytest.approx(hazard.rate, rel=4.0 / np.sqrt(found.events))
        wanted = [hazard.by_leverage, hazard.by_loss, hazard.by_gain]
        assert (np.abs(found.slopes - wanted) < 4.0 * found.errors).all()
    assert rates[WITHDRAWAL].rate < 1.1 * HAZARDS[WITHDRAWAL].rate


def test_action_without_events_is_refused() -> None:
    nothing = np.zeros(10, dtype=bool)
    with pytest.raises(DataError, match="no deposit among 10 account-hours"):
        fit_rates(Exposures(np.zeros((10, 3)), {DEPOSIT: nothing}, {DEPOSIT: nothing * 1.0}))


def test_records_without_an_open_position_are_refused() -> None:
    flat = replace(records(), trade_quantity=np.zeros(5))
    with pytest.raises(DataError, match="no hour with an open position"):
        exposures_of_records(flat)


def test_missing_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"non_mm_trades.parquet cannot be read with columns ts"):
        read_exchange_records(tmp_path)


@pytest.mark.realdata
def test_stored_hazards_are_those_of_the_recorded_accounts(data_dir: Path) -> None:
    """Rates within 5%, slopes within two and a half standard errors.

    Fails where a figure of behaving-v1 or the rebuilding of accounts is changed. Only the slope of
    top-ups by loss (2.4 errors) is meant to stand apart: the file says why.
    """
    rates = fit_rates(
        exposures_of_records(read_exchange_records(data_dir / "accounts_hyperliquid_2023"))
    )
    assert {kind: rates[kind].events for kind in KINDS} == {
        CLOSED: 274,
        REDUCTION: 182,
        DEPOSIT: 32,
        WITHDRAWAL: 28,
    }
    for kind, hazard in HAZARDS.items():
        found = rates[kind]
        assert hazard.rate == pytest.approx(found.rate, rel=0.05)
        wanted = np.array([hazard.by_leverage, hazard.by_loss, hazard.by_gain])
        assert (np.abs(wanted - found.slopes) < 2.5 * found.errors).all()
