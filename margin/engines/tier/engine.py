"""The tier engine: margin of every leg on its own, at rates that rise with its notional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, Portfolios, row_sums
from margin.engines.base import Engine
from margin.engines.equity_paths import BookPaths, MarketPath
from margin.engines.margins import Margins, Part
from margin.engines.tier.paths import tier_paths
from margin.engines.tier.rules import Bracket, TierRules
from margin.engines.tier.scaling import LegMargins, leg_margins, scaling_of, table_symbols
from margin.rules.ruleset import RuleSet
from margin.valuation.collateral import collateral_values
from market.accounts.book import Book
from market.core.errors import InstrumentError

Floats = npt.NDArray[np.float64]


class TierEngine(Engine):
    """Margin of every leg on its own, by brackets of its notional."""

    name = "tier"
    table = "tier"
    rules = TierRules
    margins_options = False

    def book_paths(self, book: Book, market: MarketPath, ruleset: RuleSet) -> BookPaths | None:
        """By one compiled pass where the margin depends on notional alone, see `tier_paths`."""
        return tier_paths(book, market, ruleset)

    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        """Margins under brackets and what scales them, see `margin.engines.tier.scaling`.

        Net margin = cash + unrealised profit and loss and funding + collateral after haircuts −
        tier margin of ``quantity * price``: a perp at its own price, spot at the spot's, both
        linear. An underlying X takes the table of symbol X, else XUSDT.

        Raises
        ------
        InstrumentError
            A leg is an option, or the open interest that its margin depends on is not known.

        References
        ----------
        Binance, "Leverage and Margin of USD-M Futures".
        """
        margins = _leg_margins(portfolios, ruleset)
        start = portfolios.start
        held = collateral_values(portfolios)
        pnl = row_sums(start, portfolios.unrealised)

        def components(haircut: Floats, legs: Floats) -> dict[str, Floats]:
            return {
                "cash": portfolios.cash,
                "unrealised_pnl": pnl,
                "collateral": held.value,
                "collateral_haircut": 0.0 - haircut,
                "tier_margin": 0.0 - row_sums(start, legs),
            }

        return Margins(
            mark_to_market=portfolios.cash + pnl + held.value,
            equity=portfolios.cash + pnl + held.counted,
            initial_margin=row_sums(start, margins.initial) + held.initial_extra,
            maintenance_margin=row_sums(start, margins.maintenance),
            collateral_haircut=held.maintenance_haircut,
            initial=components(held.initial_haircut, margins.initial),
            maintenance=components(held.maintenance_haircut, margins.maintenance),
            leg_initial=margins.initial,
            leg_maintenance=margins.maintenance,
        )

    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        """Cash, each leg's profit and the steps of its margin, each collateral balance."""
        margins = _leg_margins(portfolios, ruleset)
        cash = float(portfolios.cash[account])
        parts = [Part("cash", "", cash, cash)]
        for leg in range(portfolios.start[account], portfolios.start[account + 1]):
            name, pnl = portfolios.name[leg], float(portfolios.unrealised[leg])
            if pnl != 0.0:
                parts.append(Part("unrealised profit and loss", name, pnl, pnl))
            for step, initial, maintenance in margins.steps:
                part = Part(step, name, 0.0 - float(initial[leg]), 0.0 - float(maintenance[leg]))
                if step == "tier margin" or part.initial != 0.0 or part.maintenance != 0.0:
                    parts.append(part)
        return (*parts, *collateral_values(portfolios).parts(portfolios, account))

    def with_brackets(
        self, ruleset: RuleSet, brackets: Mapping[str, tuple[Bracket, ...]]
    ) -> dict[str, Any]:
        """The content with one class for each list of brackets, in the place of its own symbols
        and classes."""
        content = ruleset.content()
        symbols: dict[tuple[Bracket, ...], list[str]] = {}
        for symbol in sorted(brackets):
            symbols.setdefault(brackets[symbol], []).append(symbol)
        classes = {
            f"like-{names[0]}": {"symbols": names, "brackets": msgspec.to_builtins(own)}
            for own, names in symbols.items()
        }
        content[self.table] |= {"symbols": {}, "classes": classes}
        return content


def _leg_margins(portfolios: Portfolios, ruleset: RuleSet) -> LegMargins:
    options = np.flatnonzero(portfolios.kind == OPTION)
    if len(options):
        name = portfolios.name[options[0]]
        raise InstrumentError(
            f"position kind 'option' ({name}) is not margined by the tier engine; expected perp "
            "or spot, or choose a rule set of another engine",
            name,
        )
    underlyings, row = portfolios.underlyings, portfolios.underlying
    price = np.where(portfolios.kind == PERP, underlyings.perp_price[row], underlyings.spot[row])
    symbols = table_symbols(ruleset, underlyings.name)
    scaling = scaling_of(ruleset, symbols)
    if scaling is not None:
        unknown = scaling.has_caps & ~(underlyings.open_interest >= 0.0)
        for leg in np.flatnonzero(unknown[row] & (portfolios.quantity != 0.0)):
            name, known = underlyings.name[row[leg]], underlyings.open_interest[row[leg]]
            given = "no open_interest" if np.isnan(known) else f"open_interest {known}"
            raise InstrumentError(
                f"underlying {name!r} has {given}, on which the initial margin of rule set "
                f"{ruleset.name!r} depends; give its notional in the settlement currency, 0 or "
                "more",
                portfolios.name[leg],
            )
    notional = portfolios.quantity * price
    return leg_margins(
        ruleset, symbols, row, portfolios.quantity, notional, underlyings.open_interest
    )
