"""What the clients of the simulated venue do: deposits, withdrawals and trades, numbered.

At the close of each bar a client acts with probability ``1 - exp(-rate * hours)``: in equal parts
it deposits or withdraws a few per cent of its opening cash, or trades part of one position that it
opened with, at the mark. Numbers are drawn by seed and row: a restarted venue does what one that
ran on would have done. Sizes refer to the opening book, so the venue keeps no state but the number
that the endpoint expects next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from market.accounts.book import SETTLEMENT_CURRENCY, Account
from market.core.arrays import Floats
from market.core.clock import format_time

RATE = 0.02
"""Actions of a client an hour."""

BATCH = 500
"""Most snapshots in one request."""

_MICROSECOND = 1_000

_TRANSFER = (0.01, 0.10)
_TRADE = (0.05, 0.30)
"""Ranges of a transfer over opening equity and of a trade over an opening position, uniform."""


class ClientActivity:
    """Updates of the accounts of a venue, for ``POST /v1/accounts/updates``.

    Parameters
    ----------
    accounts:
        As they opened, with the time in nanoseconds. The number of an account's first update is
        that time in microseconds, as it is where the files are a source of the live book
        (`monitoring.book.account_files`): whichever of the two comes second changes nothing.
    seed:
        Of what they do.
    symbols:
        Names of the columns of the marks.
    """

    def __init__(
        self, accounts: Iterable[tuple[Account, int]], seed: int, symbols: Sequence[str]
    ) -> None:
        opened = {account.account_id: (account, time) for account, time in accounts}
        self._accounts = {name: account for name, (account, _) in opened.items()}
        self._seed = seed
        self._columns = {symbol: column for column, symbol in enumerate(symbols)}
        self._next = {name: time // _MICROSECOND for name, (_, time) in opened.items()}
        self._lost: set[str] = set(self._accounts)
        """Accounts that need a snapshot: unknown to the endpoint, or out of sync."""
        self._retired: set[str] = set()

    def snapshots(self, time: int) -> list[dict[str, Any]]:
        """Requests with a snapshot of each account that the endpoint needs one of, as it opened.

        What was taken from a client, or closed, is not given back by such a snapshot.
        """
        updates = [self._snapshot(name, time) for name in sorted(self._lost - self._retired)]
        return [{"updates": updates[i : i + BATCH]} for i in range(0, len(updates), BATCH)]

    def actions(self, row: int, time: int, mark: Floats, hours: float) -> dict[str, Any] | None:
        """The request with what clients do at the close of a bar; None: nobody acts.

        Parameters
        ----------
        row, time:
            Of the bar, and its close in nanoseconds.
        mark:
            Price of each coin, shape (S,); NaN where it is not traded.
        hours:
            Length of the bar.
        """
        random = np.random.default_rng([self._seed, row])
        chance = -math.expm1(-RATE * hours)
        acts = random.random(len(self._accounts)) < chance
        updates = []
        for name in np.array(list(self._accounts))[acts].tolist():
            draws = random.random(3)
            deltas = self._action(self._accounts[name], mark, draws)
            if deltas and name not in self._lost and name not in self._retired:
                updates.append(self._update(name, time, {"deltas": deltas}))
        return {"updates": updates} if updates else None

    def take(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Learn from the answer which number the endpoint expects of each account next."""
        for result in results:
            name = result["account_id"]
            self._next[name] = result["expected"]
            (self._lost.discard if result["in_sync"] else self._lost.add)(name)

    def knows(self, name: str) -> bool:
        """Whether an account is of this venue."""
        return name in self._accounts

    def retire(self, name: str) -> None:
        """Let the client of an account that was taken from it do nothing any more."""
        self._retired.add(name)

    def update(
        self, name: str, time: int, deltas: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """The request with a change of an account; None while the endpoint needs a snapshot."""
        if name in self._lost:
            return None
        return {"updates": [self._update(name, time, {"deltas": list(deltas)})]}

    def emptied(self, name: str, time: int) -> dict[str, Any]:
        """The request with an account that holds nothing: another one took it over."""
        nothing = {"cash": 0.0, "positions": [], "collateral": []}
        return {"updates": [self._update(name, time, {"snapshot": nothing})]}

    def _action(self, account: Account, mark: Floats, draws: Floats) -> list[dict[str, Any]]:
        choice, which, size = draws.tolist()
        if choice < 0.5 or not account.positions:
            equity = max(0.0, account.cash)
            amount = round(equity * (_TRANSFER[0] + size * (_TRANSFER[1] - _TRANSFER[0])), 2)
            kind = "deposit" if choice < 0.25 else "withdrawal"
            moved = {"kind": kind, "asset": SETTLEMENT_CURRENCY, "amount": amount}
            return [moved] if amount > 0.0 else []
        position = account.positions[int(which * len(account.positions))]
        price = float(mark[self._columns[position.instrument.removesuffix("-PERP")]])
        if not price > 0.0:
            return []
        part = _TRADE[0] + size * (_TRADE[1] - _TRADE[0])
        # Of two trades one adds to the position, the other takes from it.
        quantity = float(f"{position.quantity * (part if choice < 0.75 else -part):.4g}")
        fee = round(0.0004 * abs(quantity) * price, 6)
        fill = {"kind": "fill", "instrument": position.instrument, "quantity": quantity}
        return [{**fill, "price": float(f"{price:.8g}"), "fee": fee}]

    def _snapshot(self, name: str, time: int) -> dict[str, Any]:
        account = msgspec.to_builtins(self._accounts[name])
        del account["account_id"]
        return self._update(name, time, {"snapshot": account})

    def _update(self, name: str, time: int, content: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "account_id": name,
            "sequence": self._next[name],
            "ts": format_time(time),
            **content,
        }
