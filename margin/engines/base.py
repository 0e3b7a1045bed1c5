"""The protocol of a margin engine: everything that the rest of the system uses of one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from margin.book.portfolio_batch import CollateralBalances, Portfolios, Underlyings
from margin.engines.equity_paths import BookPaths, MarketPath
from margin.engines.margins import Margins, Part, RankedScenario
from margin.engines.tier.rules import Bracket
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.core.errors import RuleSetError

Floats = npt.NDArray[np.float64]


class Engine(Protocol):
    """How the rule sets with one table are computed; subclass it and register an instance.

    `margin.engines.registry.register` makes an engine known; nothing else names it. Methods
    receive the whole rule set and read their table with ``ruleset.engine_rules(TYPE)``.

    Attributes
    ----------
    name:
        Value of ``engine`` in a rule set; engines that differ in their table may share it.
    table:
        TOML table that the engine reads, one engine a table.
    rules:
        Type of the table, a frozen msgspec struct that forbids unknown fields. Its own validation
        belongs into its ``__post_init__``.
    margins_options:
        Whether it margins options.
    discounts_options:
        Whether an option's mark is discounted at ``max(rate, 0)``. Equity counts options at their
        mark.
    needs_daily_history:
        Whether it reads daily closes, `Portfolios.history`.
    """

    name: str
    table: str
    rules: type[Struct]
    margins_options: bool = True
    discounts_options: bool = True
    needs_daily_history: bool = False

    @abstractmethod
    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        """Margins of N portfolios.

        Figures of a portfolio that leave float64 are infinite or NaN and touch no other portfolio.

        Raises
        ------
        DataError, CaseError
            A portfolio cannot be margined, such as one with an instrument that has no price.
        """
        ...

    @abstractmethod
    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        """The parts of one portfolio, by its index: they add up to its net margins."""
        ...

    def worst_scenarios(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[RankedScenario, ...] | None:
        """Up to `count` scenarios of one portfolio, the worst first; None without scenarios."""
        return None

    def explain(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[tuple[Part, ...], tuple[RankedScenario, ...] | None]:
        """`parts` and `worst_scenarios`; override it where one calculation gives both."""
        return (
            self.parts(portfolios, account, ruleset),
            self.worst_scenarios(portfolios, account, ruleset, count),
        )

    def collateral_haircuts(
        self, balances: CollateralBalances, underlyings: Underlyings, ruleset: RuleSet
    ) -> Floats:
        """Share of a positive balance that maintenance does not count, shape (B,)."""
        return np.where(balances.cash, 0.0, balances.maintenance_haircut)

    def settles_in_coin(self, ruleset: RuleSet) -> bool:
        """Whether cash, profits and margins are in the coin of the underlying."""
        return False

    def book_paths(self, book: Book, market: MarketPath, ruleset: RuleSet) -> BookPaths | None:
        """Books along a market path, where the engine has a faster way than margining them row by
        row (`margin.book.book_paths`); None where it has none for these rules."""
        return None

    def emir_measures(self, ruleset: RuleSet) -> tuple[str, ...]:
        """Measures of EMIR Article 28(1) that the engine's table takes, such as
        ``simulation.buffer``; raises ValueError where the table breaks the margin articles."""
        return ()

    def with_brackets(
        self, ruleset: RuleSet, brackets: Mapping[str, tuple[Bracket, ...]]
    ) -> dict[str, Any]:
        """Content of a rule set with the brackets of a venue's record, by symbol.

        Raises
        ------
        RuleSetError
            The engine has no brackets.
        """
        raise RuleSetError(
            f"rule set {ruleset.name!r} has the engine {self.name!r}, which has no brackets; "
            "choose a base whose engine margins by brackets, such as 'binance-usdm'"
        )
