"""Fit the rates at which account owners act, from recorded accounts.

Accounts are rebuilt by the hour from trades and transfers. Each hour with an open position is an
exposure with three covariates (log of leverage over five, loss, gain; see
`market.simulator.account_behaviour`), and each kind of action a Poisson count in the hour after
it::

    events ~ Poisson(exp(a + b_leverage · ln(ℓ / 5) + b_loss · loss + b_gain · gain))

fitted by maximum likelihood with a weak normal prior (standard deviation 2) on the slopes, which
matters where events are few.

References
----------
McCullagh and Nelder (1989), *Generalized Linear Models*, chapter 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.accounts.account_files import CLOSED
from market.core.errors import DataError
from market.simulator.account_behaviour import (
    DEPOSIT,
    KINDS,
    REDUCTION,
    WITHDRAWAL,
    AccountTrajectories,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_REDUCTION, FULL_REDUCTION = 0.05, 0.95
"""Range of the share of a position closed within an hour: less is noise, more is a closing."""

_USUAL_LEVERAGE = 5.0
_LEAST_LEVERAGE = 0.1
_LEAST_USD = 1.0
_PRIOR_VARIANCE = 4.0


@dataclass(frozen=True, slots=True)
class ExchangeRecords:
    """Trades, transfers and liquidations of U users in C coins, by the hour they became known.

    Attributes
    ----------
    trade_hour, trade_user, trade_coin:
        int64, shape (N,); hours count from 0.
    trade_quantity, trade_price:
        Signed, shape (N,); in order of time.
    transfer_hour, transfer_user, transfer_usd:
        Deposits (positive) and withdrawals, shape (M,).
    liquidation_hour, liquidation_user:
        Shape (L,).
    """

    trade_hour: Ints
    trade_user: Ints
    trade_coin: Ints
    trade_quantity: Floats
    trade_price: Floats
    transfer_hour: Ints
    transfer_user: Ints
    transfer_usd: Floats
    liquidation_hour: Ints
    liquidation_user: Ints


@dataclass(frozen=True, slots=True)
class Exposures:
    """H account-hours: covariates (H, 3), for each kind of action whether it occurred in the
    hour after, and its size (over equity for transfers, part of the position for the rest; 0 where
    none), shape (H,)."""

    covariates: Floats
    events: dict[str, npt.NDArray[np.bool_]]
    size: dict[str, Floats]

    @property
    def leverage(self) -> Floats:
        """Gross notional over equity, shape (H,)."""
        return np.asarray(_USUAL_LEVERAGE * np.exp(self.covariates[:, 0]))


@dataclass(frozen=True, slots=True)
class Rate:
    """Events of one kind: their number, the rate an hour at a leverage of five, and the slopes by
    leverage, loss and gain with standard errors, shape (3,)."""

    events: int
    rate: float
    slopes: Floats
    errors: Floats


def exposures_of_records(records: ExchangeRecords) -> Exposures:
    """Rebuild every account by the hour and list its hours with an open position.

    A coin is marked at the last trade of any user. Hours in and just before which an account was
    liquidated are left out: its owner did not choose those closings.
    """
    hours = int(max(records.trade_hour.max(), records.transfer_hour.max())) + 1
    users = int(max(records.trade_user.max(), records.transfer_user.max())) + 1
    coins = int(records.trade_coin.max()) + 1
    price = np.full((hours, coins), np.nan)
    price[records.trade_hour, records.trade_coin] = records.trade_price
    known = np.maximum.accumulate(
        np.where(np.isfinite(price), np.arange(hours)[:, None], 0), axis=0
    )
    price = np.nan_to_num(np.take_along_axis(price, known, axis=0))
    position, cash = np.zeros((hours, users, coins)), np.zeros((hours, users))
    traded = (records.trade_hour, records.trade_user)
    np.add.at(position, (*traded, records.trade_coin), records.trade_quantity)
    np.add.at(cash, traded, -records.trade_quantity * records.trade_price)
    transfers = np.zeros((hours, users))
    np.add.at(transfers, (records.transfer_hour, records.transfer_user), records.transfer_usd)
    position, cash = position.cumsum(axis=0), (cash + transfers).cumsum(axis=0)
    equity = cash + np.einsum("tuc,tc->tu", position, price)
    gross = np.einsum("tuc,tc->tu", np.abs(position), price)
    unchanged = np.einsum("tuc,tc->tu", np.abs(position[1:]), price[:-1])  # at the marks before
    liquidated = np.zeros((hours + 1, users), dtype=bool)
    liquidated[records.liquidation_hour, records.liquidation_user] = True

    rows = []
    for user in range(users):
        reference = np.nan
        for t in range(hours - 1):
            account_equity, notional, paid = equity[t, user], gross[t, user], transfers[t + 1, user]
            if notional <= _LEAST_USD or account_equity <= _LEAST_USD:
                reference = np.nan
                continue
            reference = account_equity if np.isnan(reference) else reference
            cut = 1.0 - unchanged[t, user] / notional
            if not (liquidated[t, user] or liquidated[t + 1, user]):
                rows.append(
                    (
                        notional / account_equity,
                        account_equity / reference - 1.0,
                        paid / account_equity,
                        cut,
                    )
                )
            if paid != 0.0:
                reference = equity[t + 1, user]
    if not rows:
        raise DataError("the records hold no hour with an open position; nothing can be fitted")
    leverage, change, paid_share, reduction = np.array(rows).T
    return _exposures(
        leverage,
        change,
        {
            DEPOSIT: np.maximum(paid_share, 0.0),
            WITHDRAWAL: np.maximum(-paid_share, 0.0),
            REDUCTION: np.where(
                (reduction > MIN_REDUCTION) & (reduction < FULL_REDUCTION), reduction, 0.0
            ),
            CLOSED: np.where(reduction >= FULL_REDUCTION, 1.0, 0.0),
        },
    )


def exposures_of_accounts(trajectories: AccountTrajectories, mark: Floats) -> Exposures:
    """List the hours of sampled accounts on an hourly grid, as `exposures_of_records` does.

    An action follows the covariates of its decision time. An account's hours end when its equity
    is used up.
    """
    accounts = trajectories.accounts
    first = np.searchsorted(trajectories.account, np.arange(len(accounts) + 1))
    rows = []
    for i in range(len(accounts)):
        legs = slice(accounts.leg_start[i], accounts.leg_start[i + 1])
        quantity, entry = accounts.leg_quantity[legs], accounts.leg_entry_price[legs]
        prices = mark[:, accounts.leg_symbol[legs]]
        cash, remaining, reference, n = accounts.cash[i], 1.0, accounts.cash[i], first[i]
        # The row at which a life closed is its end_row, and an exposure too.
        for row in range(accounts.opening_row[i] + 1, min(accounts.end_row[i] + 1, len(mark))):
            acts = n < first[i + 1] and trajectories.row[n] == row
            if row == accounts.end_row[i] and not acts:
                break
            positions = remaining * quantity
            equity = cash + float(positions @ (prices[row] - entry))
            if not equity > 0.0:
                break
            covariates = [float(np.abs(positions) @ prices[row]) / equity, equity / reference - 1.0]
            sizes = dict.fromkeys(KINDS, 0.0)
            if acts:
                kind, amount = KINDS[trajectories.kind[n]], abs(float(trajectories.amount[n]))
                if kind in (DEPOSIT, WITHDRAWAL):
                    sizes[kind] = amount / equity
                    reference = equity + float(trajectories.amount[n])
                else:
                    sizes[kind] = (
                        1.0
                        if kind == CLOSED
                        else 1.0 - trajectories.remaining_fraction[n] / remaining
                    )
                cash, remaining, n = trajectories.cash[n], trajectories.remaining_fraction[n], n + 1
            rows.append((*covariates, *sizes.values()))
    leverage, change, *sizes_of = np.array(rows).T
    return _exposures(leverage, change, dict(zip(KINDS, sizes_of, strict=True)))


def fit_rates(exposures: Exposures) -> dict[str, Rate]:
    """Rate and slopes of each kind of action, by Newton's method."""
    hours = len(exposures.covariates)
    design = np.column_stack([np.ones(hours), exposures.covariates])
    prior = np.diag([0.0, *(1.0 / _PRIOR_VARIANCE for _ in range(3))])
    rates = {}
    for kind, occurred in exposures.events.items():
        events = int(occurred.sum())
        if not events:
            raise DataError(f"no {kind} among {hours} account-hours; nothing can be fitted")
        point = np.array([np.log(events / hours), 0.0, 0.0, 0.0])
        for _ in range(100):
            expected = np.exp(design @ point)
            slope = design.T @ (occurred - expected) - prior @ point
            curvature = (design * expected[:, None]).T @ design + prior
            step = np.linalg.solve(curvature, slope)
            # Far from the top a full step overshoots.
            point = point + step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-10:
                break
        errors = np.sqrt(np.diag(np.linalg.inv(curvature)))
        rates[kind] = Rate(events, float(np.exp(point[0])), point[1:], errors[1:])
    return rates


def _exposures(leverage: Floats, change: Floats, size: dict[str, Floats]) -> Exposures:
    covariates = np.column_stack(
        [
            np.log(np.maximum(leverage, _LEAST_LEVERAGE) / _USUAL_LEVERAGE),
            np.maximum(0.0, -change),
            np.clip(change, 0.0, 1.0),
        ]
    )
    return Exposures(covariates, {kind: values > 0.0 for kind, values in size.items()}, size)
