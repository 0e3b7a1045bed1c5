"""Behaviour of the owners of sampled accounts: they top up, withdraw, reduce and close.

At each decision time an account with equity E, gross notional G and leverage ℓ = G / E acts with
probability 1 - exp(-H · hours), where H is the sum over the kinds of action of

    h = rate · (ℓ / 5)^by_leverage · exp(by_loss · loss + by_gain · gain)

and the kind is drawn in proportion to h. Loss and gain are of equity against that after the last
deposit or withdrawal, gain at most 1. The owner acts at the mark in view: what happens at a
decision time depends on marks up to that time and on nothing later, but for whether a mark is
held through a gap, which only its end tells (`market.bars.history`). An account whose equity is
gone is closed. Numbers are hashes of seed, slot, epoch and time, so an account behaves the same in
every sample that holds it.

References
----------
Cox (1972), "Regression Models and Life-Tables", for hazards that depend on the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from market.accounts.account_files import CLOSED, AccountHistory, Event, make_history
from market.core.arrays import Floats, Ints
from market.core.clock import HOUR
from market.simulator.behaviour_rates import Behaviour, Hazard
from market.simulator.counter_rng import mix, slot_key, uniform
from market.simulator.population import ACCOUNT, SampledAccounts
from market.sources.base import AccountUpdates

DEPOSIT, WITHDRAWAL, REDUCTION = "deposit", "withdrawal", "reduction"
"""Kinds of events beside `CLOSED`; the amount is signed USD: paid in, paid out (negative), and
the notional given up (negative)."""

KINDS = (CLOSED, REDUCTION, DEPOSIT, WITHDRAWAL)
"""Kinds by number."""

_CLOSES, _CUTS, _TOPS_UP, _WITHDRAWS = range(4)
_USUAL_LEVERAGE = 5.0
_LEAST_LEVERAGE = 1e-3
# Purposes of the hash beside those that draw an account.
_CHANCE, _SIZE_1, _SIZE_2 = (np.uint64(100 + purpose) for purpose in range(3))


@dataclass(frozen=True, slots=True)
class AccountTrajectories:
    """Sampled accounts with the actions of their owners: A actions, sorted by account, then by row.

    Attributes
    ----------
    accounts:
        The books at their opening; ``end_row`` is that of the closing where an account closed.
    account, row, kind:
        Which account acted, at which decision time, and how (index into `KINDS`); int64, shape
        (A,).
    amount:
        As the event has it, shape (A,).
    cash:
        Cash after the action, shape (A,).
    remaining_fraction:
        Part of every leg's quantity at opening that is still held after the action, shape (A,).
    """

    accounts: SampledAccounts
    account: Ints
    row: Ints
    kind: Ints
    amount: Floats
    cash: Floats
    remaining_fraction: Floats

    @classmethod
    def idle(cls, accounts: SampledAccounts) -> AccountTrajectories:
        """Accounts whose owners do nothing."""
        none, nothing = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(accounts, none, none, none, nothing, nothing, nothing)

    def history(self, symbols: Sequence[str], decision_times: Ints) -> AccountHistory:
        """The history that their account files hold; `symbols` name the columns of the mark."""
        return make_history(self.snapshots(symbols, decision_times), self.events(decision_times))

    def snapshots(self, symbols: Sequence[str], decision_times: Ints) -> Iterator[AccountUpdates]:
        """Books that open or change, by rising time, in the order of the accounts.

        An account that closes has no snapshot at that row; see `events`.
        """
        accounts = self.accounts
        changed = self.kind != _CLOSES
        account = np.r_[np.arange(len(accounts)), self.account[changed]]
        row = np.r_[accounts.opening_row, self.row[changed]]
        cash = np.r_[accounts.cash, self.cash[changed]]
        remaining = np.r_[np.ones(len(accounts)), self.remaining_fraction[changed]]
        order = np.lexsort((account, row))
        rows, first = np.unique(row[order], return_index=True)
        for when, chosen in zip(rows, np.split(order, first[1:]), strict=True):
            opened = accounts.book_of(account[chosen], symbols)
            legs = np.diff(opened.leg_start)
            yield AccountUpdates(
                int(decision_times[when]),
                replace(
                    opened,
                    cash=cash[chosen],
                    leg_quantity=opened.leg_quantity * np.repeat(remaining[chosen], legs),
                ),
            )

    def events(self, decision_times: Ints) -> list[Event]:
        """All actions, and the closing of every account that ends within the history."""
        actions = [
            Event(int(decision_times[r]), self.accounts.account_id(i), KINDS[k], a)
            for i, r, k, a in zip(
                self.account.tolist(),
                self.row.tolist(),
                self.kind.tolist(),
                self.amount.tolist(),
                strict=True,
            )
        ]
        closed = set(self.account[self.kind == _CLOSES].tolist())
        endings = [
            Event(int(decision_times[end]), self.accounts.account_id(i), CLOSED)
            for i, end in enumerate(self.accounts.end_row.tolist())
            if i not in closed and end < len(decision_times)
        ]
        return actions + endings


def simulate_behaviour(
    accounts: SampledAccounts, behaviour: Behaviour, seed: int, decision_times: Ints, mark: Floats
) -> AccountTrajectories:
    """Simulate the actions of the owners of sampled accounts.

    Parameters
    ----------
    accounts:
        From `market.simulator.population.sample_population` with the same seed, times and marks.
    behaviour:
        Hazards and sizes.
    seed:
        Of the population.
    decision_times, mark:
        Shapes (T,) and (T, S); nobody acts while a mark of the book is NaN.
    """
    hours = float(decision_times[1] - decision_times[0]) / HOUR
    hazards = (behaviour.closing, behaviour.reduction, behaviour.top_up, behaviour.withdrawal)
    columns = _Accounts(
        accounts.slot.astype(np.uint64),
        accounts.epoch.astype(np.uint64),
        accounts.opening_row,
        accounts.end_row,
        accounts.cash,
        accounts.leg_start,
        accounts.leg_symbol,
        accounts.leg_quantity,
        accounts.leg_entry_price,
    )
    model = _Model(
        np.array([_figures(hazard) for hazard in hazards]),
        behaviour.reduction_share.least,
        behaviour.reduction_share.most,
        behaviour.withdrawal_share.least,
        behaviour.withdrawal_share.most,
        behaviour.limits.leverage_limit,
        np.log(behaviour.top_up_size.median),
        behaviour.top_up_size.log_sigma,
        behaviour.top_up_size.most,
    )
    time, mark = decision_times.astype(np.uint64), np.ascontiguousarray(mark, dtype=np.float64)

    def simulate(size: int) -> tuple[int, Ints, Floats]:
        which, figures = np.empty((size, 3), dtype=np.int64), np.empty((size, 3))
        count = _walk(np.uint64(seed), columns, model, time, mark, hours, which, figures)
        return count, which, figures

    count, _, _ = simulate(0)
    _, which, figures = simulate(count)
    account, row, kind = which.T.copy()
    end_row = accounts.end_row.copy()
    closed = kind == _CLOSES
    end_row[account[closed]] = row[closed]
    amount, cash, remaining = figures.T.copy()
    closed_early = replace(accounts, end_row=end_row)
    return AccountTrajectories(closed_early, account, row, kind, amount, cash, remaining)


def _figures(hazard: Hazard) -> tuple[float, float, float, float]:
    return hazard.rate, hazard.by_leverage, hazard.by_loss, hazard.by_gain


class _Accounts(NamedTuple):
    """`SampledAccounts` as the kernel wants them."""

    slot: npt.NDArray[np.uint64]
    epoch: npt.NDArray[np.uint64]
    opening_row: Ints
    end_row: Ints
    opening_cash: Floats
    leg_start: Ints
    leg_symbol: Ints
    leg_quantity: Floats
    leg_entry_price: Floats


class _Model(NamedTuple):
    """`Behaviour` as the kernel wants it: `hazards` (4, 4) by kind, rate and effects; sizes."""

    hazards: Floats
    least_reduction: float
    most_reduction: float
    least_withdrawal: float
    most_withdrawal: float
    leverage_limit: float
    log_top_up: float
    log_sigma: float
    most_top_up: float


@njit(cache=True, error_model="numpy")
def _walk(
    seed: np.uint64,
    accounts: _Accounts,
    model: _Model,
    time: npt.NDArray[np.uint64],
    mark: Floats,
    hours: float,
    which: Ints,
    figures: Floats,
) -> int:
    """Count the actions and write as many as `which` and `figures` have rows for."""
    slot, epoch, opening_row, end_row, opening_cash = accounts[:5]
    leg_start, leg_symbol, leg_quantity, leg_entry_price = accounts[5:]
    hazards = model.hazards
    count = 0
    rates = np.empty(4)
    for n in range(len(slot)):
        key = mix(mix(slot_key(seed, slot[n]), ACCOUNT), epoch[n])
        cash, remaining = opening_cash[n], 1.0
        reference = cash
        for row in range(opening_row[n] + 1, end_row[n]):
            profit, gross = 0.0, 0.0
            for leg in range(leg_start[n], leg_start[n + 1]):
                price = mark[row, leg_symbol[leg]]
                quantity = remaining * leg_quantity[leg]
                profit += quantity * (price - leg_entry_price[leg])
                gross += abs(quantity * price)
            equity = cash + profit
            if np.isnan(equity):
                continue
            kind, amount = -1, 0.0
            if equity <= 0.0:
                kind = _CLOSES
            else:
                leverage = max(gross / equity, _LEAST_LEVERAGE)
                change = equity / reference - 1.0
                loss, gain = max(0.0, -change), min(max(0.0, change), 1.0)
                total = 0.0
                for k in range(4):
                    rates[k] = hazards[k, 0] * (leverage / _USUAL_LEVERAGE) ** hazards[k, 1]
                    rates[k] *= np.exp(hazards[k, 2] * loss + hazards[k, 3] * gain)
                    total += rates[k]
                chance = -np.expm1(-total * hours)
                draw = uniform(key, _CHANCE, time[row])
                if draw >= chance:
                    continue
                # Below the chance the same draw is uniform again: it picks the kind.
                left = draw / chance * total
                kind = 3
                for k in range(4):
                    if left < rates[k]:
                        kind = k
                        break
                    left -= rates[k]
            if kind == _CUTS:
                width = model.most_reduction - model.least_reduction
                part = model.least_reduction + width * uniform(key, _SIZE_1, time[row])
                amount = -part * gross
                cash += part * profit
                remaining *= 1.0 - part
            elif kind == _TOPS_UP:
                normal = np.sqrt(-2.0 * np.log(uniform(key, _SIZE_1, time[row]))) * np.cos(
                    2.0 * np.pi * uniform(key, _SIZE_2, time[row])
                )
                size = np.exp(model.log_top_up + model.log_sigma * normal)
                amount = equity * min(size, model.most_top_up)
            elif kind == _WITHDRAWS:
                free = min(equity - gross / model.leverage_limit, cash)
                if free <= 0.0:
                    continue
                width = model.most_withdrawal - model.least_withdrawal
                share = model.least_withdrawal + width * uniform(key, _SIZE_1, time[row])
                amount = -free * share
            if kind in (_TOPS_UP, _WITHDRAWS):
                cash += amount
                reference = equity + amount
            if count < len(which):
                which[count, 0], which[count, 1], which[count, 2] = n, row, kind
                figures[count, 0], figures[count, 1], figures[count, 2] = amount, cash, remaining
            count += 1
            if kind == _CLOSES:
                break
    return count
