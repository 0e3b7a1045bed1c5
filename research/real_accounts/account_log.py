"""An account's positions and cash as its trades and transfers move them.

Positions of one coin net into one average entry price. Cash is what was paid in and out plus what
closed trades have made, so that equity is ``cash + Σ quantity · (mark − entry)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from market.accounts.book import Account, Position

_DUST = 1e-9
"""Share of a trade below which what is left of a position is rounding."""


@dataclass(slots=True)
class AccountLog:
    """One account at the newest record applied to it.

    Attributes
    ----------
    account_id:
        Its name.
    cash:
        USD.
    quantity, entry:
        Signed units and average entry price, by instrument; flat instruments are left out.
    """

    account_id: str
    cash: float = 0.0
    quantity: dict[str, float] = field(default_factory=dict)
    entry: dict[str, float] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        """Whether the account holds nothing."""
        return not self.quantity

    def transfer(self, amount: float) -> None:
        """Pay USD in (positive) or out."""
        self.cash += amount

    def trade(self, instrument: str, quantity: float, price: float) -> None:
        """Buy (positive) or sell units at a price.

        What adds to a position moves its average entry; what reduces it leaves the entry and
        turns its profit into cash; what crosses zero closes all and opens the rest at the price.
        """
        held, entry = self.quantity.get(instrument, 0.0), self.entry.get(instrument, price)
        left = held + quantity
        if abs(left) <= _DUST * abs(quantity):
            left = 0.0
        if held * quantity >= 0.0:
            entry = (held * entry + quantity * price) / left if left else price
        else:
            closed = -quantity if abs(quantity) < abs(held) else held
            self.cash += closed * (price - entry)
            if left * held <= 0.0:
                entry = price
        if left:
            self.quantity[instrument], self.entry[instrument] = left, entry
        else:
            self.quantity.pop(instrument, None)
            self.entry.pop(instrument, None)

    def account(self) -> Account:
        """The account as it stands."""
        return Account(
            self.account_id,
            self.cash,
            tuple(
                Position(name, self.quantity[name], self.entry[name])
                for name in sorted(self.quantity)
            ),
        )
