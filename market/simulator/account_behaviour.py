"""What the owners of sampled accounts do: top up, withdraw, cut, close.

At each decision time an account with equity E, gross notional G and leverage ℓ = G / E acts with
probability 1 - exp(-H · hours), where H is the sum over the kinds of action of

    h = rate · (ℓ / 5)^by_leverage · exp(by_loss · loss + by_gain · gain)

and the kind is drawn in proportion to h. Loss and gain are of equity against that after the last
deposit or withdrawal, gain at most 1. The owner acts at the mark in view: what happens at a
decision time depends on marks up to that time and on nothing later, but for whether a mark is
held through a gap, which only its end tells (`market.bars.history`). An account whose equity is
gone is closed. Numbers are hashes of seed, slot, epoch and time, so a life is the same in every
sample that holds it.

References
----------
Cox (1972), "Regression Models and Life-Tables", for hazards that depend on the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from market.accounts.account_files import CLOSED, AccountHistory, Event, make_history
from market.core.clock import HOUR
from market.simulator.behaviour_rates import Behaviour, Hazard
from market.simulator.counter_rng import mix, slot_key, uniform
from market.simulator.population import LIFE, SampledAccounts
from market.sources.base import AccountUpdates

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DEPOSIT, WITHDRAWAL, REDUCTION = "deposit", "withdrawal", "reduction"
"""Kinds of events beside `CLOSED`; the amount is signed USD: paid in, paid out (negative), and
the notional given up (negative)."""

KINDS = (CLOSED, REDUCTION, DEPOSIT, WITHDRAWAL)
"""Kinds by number."""

_CLOSES, _CUTS, _TOPS_UP, _WITHDRAWS = range(4)
_USUAL_LEVERAGE = 5.0
_LEAST_LEVERAGE = 1e-3
# Purposes of the hash beside those that draw a life.
_CHANCE, _SIZE_1, _SIZE_2 = (np.uint64(100 + purpose) for purpose in range(3))


@dataclass(frozen=True, slots=True)
class AccountTrajectories:
    """Lives with what their owners did: A actions, sorted by life, then by row.

    Attributes
    ----------
    lives:
        The books at birth; a life ends at ``end_row`` here, earlier where its account closed.
    life, row, kind:
        Which life acted, at which decision time, and how (index into `KINDS`); int64, shape (A,).
    amount:
        As the event has it, shape (A,).
    cash:
        Cash after the action, shape (A,).
    kept:
        Part of every leg's quantity at birth that is still held after the action, shape (A,).
    """

    lives: SampledAccounts
    life: Ints
    row: Ints
    kind: Ints
    amount: Floats
    cash: Floats
    kept: Floats

    @classmethod
    def idle(cls, lives: SampledAccounts) -> AccountTrajectories:
        """Lives whose owners do nothing."""
        none, nothing = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(lives, none, none, none, nothing, nothing, nothing)

    def history(self, symbols: Sequence[str], decision_times: Ints) -> AccountHistory:
        """The lives as recorded accounts; `symbols` name the columns of the mark."""
        return make_history(self.snapshots(symbols, decision_times), self.events(decision_times))

    def snapshots(self, symbols: Sequence[str], decision_times: Ints) -> Iterator[AccountUpdates]:
        """Each time at which books begin or change, rising, with those books in order of life.

        An account that closes has no snapshot at that row; see `events`.
        """
        lives = self.lives
        changed = self.kind != _CLOSES
        life = np.r_[np.arange(len(lives)), self.life[changed]]
        row = np.r_[lives.birth_row, self.row[changed]]
        cash = np.r_[lives.cash, self.cash[changed]]
        kept = np.r_[np.ones(len(lives)), self.kept[changed]]
        order = np.lexsort((life, row))
        rows, first = np.unique(row[order], return_index=True)
        for when, own in zip(rows, np.split(order, first[1:]), strict=True):
            born = lives.book_of(life[own], symbols)
            legs = np.diff(born.leg_start)
            yield AccountUpdates(
                int(decision_times[when]),
                replace(
                    born,
                    cash=cash[own],
                    leg_quantity=born.leg_quantity * np.repeat(kept[own], legs),
                ),
            )

    def events(self, decision_times: Ints) -> list[Event]:
        """All actions and the closing of every life that ends within the history."""
        acted = [
            Event(int(decision_times[r]), self.lives.account_id(i), KINDS[k], a)
            for i, r, k, a in zip(
                self.life.tolist(),
                self.row.tolist(),
                self.kind.tolist(),
                self.amount.tolist(),
                strict=True,
            )
        ]
        gone = set(self.life[self.kind == _CLOSES].tolist())
        ended = [
            Event(int(decision_times[self.lives.end_row[i]]), self.lives.account_id(i), CLOSED)
            for i in range(len(self.lives))
            if i not in gone and self.lives.end_row[i] < len(decision_times)
        ]
        return acted + ended


def simulate_behaviour(
    lives: SampledAccounts, behaviour: Behaviour, seed: int, decision_times: Ints, mark: Floats
) -> AccountTrajectories:
    """Let the owners of sampled lives act.

    Parameters
    ----------
    lives:
        From `market.simulator.population.sample_lives` with the same seed, times and marks.
    behaviour:
        Hazards and sizes.
    seed:
        Of the population.
    decision_times, mark:
        Shapes (T,) and (T, S); nobody acts while a mark of the book is NaN.
    """
    hours = float(decision_times[1] - decision_times[0]) / HOUR
    hazards = (behaviour.closing, behaviour.reduction, behaviour.top_up, behaviour.withdrawal)
    inputs = (
        np.uint64(seed),
        lives.slot.astype(np.uint64),
        lives.epoch.astype(np.uint64),
        lives.birth_row,
        lives.end_row,
        lives.cash,
        lives.leg_start,
        lives.leg_symbol,
        lives.leg_quantity,
        lives.leg_entry_price,
        decision_times.astype(np.uint64),
        np.ascontiguousarray(mark, dtype=np.float64),
        hours,
        np.array([_figures(hazard) for hazard in hazards]),
        np.array(
            [
                behaviour.reduction_share.least,
                behaviour.reduction_share.most,
                behaviour.withdrawal_share.least,
                behaviour.withdrawal_share.most,
                behaviour.limits.leverage_limit,
                np.log(behaviour.top_up_size.median),
                behaviour.top_up_size.log_sigma,
                behaviour.top_up_size.most,
            ]
        ),
    )
    count = _walk(*inputs, np.empty((0, 3), dtype=np.int64), np.empty((0, 3)), False)
    which, figures = np.empty((count, 3), dtype=np.int64), np.empty((count, 3))
    _walk(*inputs, which, figures, True)
    life, row, kind = which.T.copy()
    end_row = lives.end_row.copy()
    closed = kind == _CLOSES
    end_row[life[closed]] = row[closed]
    amount, cash, kept = figures.T.copy()
    return AccountTrajectories(replace(lives, end_row=end_row), life, row, kind, amount, cash, kept)


def _figures(hazard: Hazard) -> tuple[float, float, float, float]:
    return hazard.rate, hazard.by_leverage, hazard.by_loss, hazard.by_gain


@njit(cache=True, error_model="numpy")
def _walk(
    seed: np.uint64,
    slot: npt.NDArray[np.uint64],
    epoch: npt.NDArray[np.uint64],
    birth_row: Ints,
    end_row: Ints,
    birth_cash: Floats,
    leg_start: Ints,
    leg_symbol: Ints,
    leg_quantity: Floats,
    leg_entry_price: Floats,
    time: npt.NDArray[np.uint64],
    mark: Floats,
    hours: float,
    hazards: Floats,
    sizes: Floats,
    which: Ints,
    figures: Floats,
    record: bool,
) -> int:
    """Count the actions and, where asked, record them; both walks draw the same numbers."""
    found = 0
    rates = np.empty(4)
    for n in range(len(slot)):
        key = mix(mix(slot_key(seed, slot[n]), LIFE), epoch[n])
        cash, kept = birth_cash[n], 1.0
        reference = cash
        for row in range(birth_row[n] + 1, end_row[n]):
            profit, gross = 0.0, 0.0
            for leg in range(leg_start[n], leg_start[n + 1]):
                price = mark[row, leg_symbol[leg]]
                held = kept * leg_quantity[leg]
                profit += held * (price - leg_entry_price[leg])
                gross += abs(held * price)
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
                part = sizes[0] + (sizes[1] - sizes[0]) * uniform(key, _SIZE_1, time[row])
                amount = -part * gross
                cash += part * profit
                kept *= 1.0 - part
            elif kind == _TOPS_UP:
                normal = np.sqrt(-2.0 * np.log(uniform(key, _SIZE_1, time[row]))) * np.cos(
                    2.0 * np.pi * uniform(key, _SIZE_2, time[row])
                )
                amount = equity * min(np.exp(sizes[5] + sizes[6] * normal), sizes[7])
            elif kind == _WITHDRAWS:
                free = min(equity - gross / sizes[4], cash)
                if free <= 0.0:
                    continue
                amount = -free * (
                    sizes[2] + (sizes[3] - sizes[2]) * uniform(key, _SIZE_1, time[row])
                )
            if kind in (_TOPS_UP, _WITHDRAWS):
                cash += amount
                reference = equity + amount
            if record:
                which[found, 0], which[found, 1], which[found, 2] = n, row, kind
                figures[found, 0], figures[found, 1], figures[found, 2] = amount, cash, kept
            found += 1
            if kind == _CLOSES:
                break
    return found
