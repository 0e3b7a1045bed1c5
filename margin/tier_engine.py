"""The tier engine: margin of every leg on its own, at rates that rise with its notional."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margin.margins import Margins, Part
from margin.pledges import pledge_values
from margin.portfolios import OPTION, PERP, Portfolios
from margin.rows import row_sums
from margin.ruleset import RuleSet
from margin.tier import TierTable
from market.errors import InstrumentError

Floats = npt.NDArray[np.float64]


def tier_margins(portfolios: Portfolios, ruleset: RuleSet) -> Margins:
    """Margins under brackets.

    Net margin = cash + unrealised profit and loss and funding + collateral after haircuts −
    tier margin of ``quantity * price``: a perp at its own price, spot at the spot's, both linear.
    An underlying X takes the brackets of symbol X, else XUSDT.

    Raises
    ------
    InstrumentError
        A leg is an option.
    RuleSetError
        The rule set has no brackets.

    References
    ----------
    Binance, "Leverage and Margin of USD-M Futures".
    """
    initial, maintenance = _leg_margins(portfolios, ruleset)
    start = portfolios.start
    held = pledge_values(portfolios)
    pnl = row_sums(start, portfolios.unrealised)

    def components(haircut: Floats, margins: Floats) -> dict[str, Floats]:
        return {
            "cash": portfolios.cash,
            "unrealised_pnl": pnl,
            "collateral": held.value,
            "collateral_haircut": 0.0 - haircut,
            "tier_margin": 0.0 - row_sums(start, margins),
        }

    return Margins(
        mark_to_market=portfolios.cash + pnl + held.value,
        initial=components(held.initial_haircut, initial),
        maintenance=components(held.maintenance_haircut, maintenance),
        leg_initial=initial,
        leg_maintenance=maintenance,
    )


def tier_parts(portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
    """The parts of one portfolio: cash, each leg's profit and margin, each pledge."""
    initial, maintenance = _leg_margins(portfolios, ruleset)
    cash = float(portfolios.cash[account])
    parts = [Part("cash", "", cash, cash)]
    for leg in range(portfolios.start[account], portfolios.start[account + 1]):
        name, pnl = portfolios.name[leg], float(portfolios.unrealised[leg])
        if pnl != 0.0:
            parts.append(Part("unrealised profit and loss", name, pnl, pnl))
        parts.append(Part("tier margin", name, -float(initial[leg]), -float(maintenance[leg])))
    return (*parts, *pledge_values(portfolios).parts(portfolios, account))


def _leg_margins(portfolios: Portfolios, ruleset: RuleSet) -> tuple[Floats, Floats]:
    options = np.flatnonzero(portfolios.kind == OPTION)
    if len(options):
        name = portfolios.name[options[0]]
        raise InstrumentError(
            f"position kind 'option' ({name}) is not margined by the tier engine; expected perp "
            "or spot, or choose a rule set of another engine",
            name,
        )
    underlyings = portfolios.underlyings
    price = np.where(
        portfolios.kind == PERP,
        underlyings.perp_price[portfolios.underlying],
        underlyings.spot[portfolios.underlying],
    )
    notional = portfolios.quantity * price
    own = ruleset.tiers.symbols
    symbols = tuple(name if name in own else f"{name}USDT" for name in underlyings.name)
    table = TierTable.build(ruleset, symbols)
    row = portfolios.underlying
    return table.initial(notional, row), table.maintenance(notional, row)
