"""Which version of the rules applies: at the time of a decision, or now."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from decisions.errors import NoRulesError, NoRulesThenError, NotFoundError, RequestError
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import parse_time
from market.core.errors import DataError, RuleSetError
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.state import Clock


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The versions of the rules beside a clock.

    Attributes
    ----------
    history:
        The versions.
    live:
        Whose bars and quotes are the clock where the wall clock does not count.
    clock:
        Which clock counts.
    """

    history: RuleHistory
    live: LiveMarket
    clock: Clock

    def of_decision(self, as_of: int, *, requested: bool) -> RuleSet:
        """The version in force at the time of a decision.

        Raises
        ------
        NoRulesThenError
            No version is in force at the time that the request gave.
        NoRulesError
            No version is in force now.
        """
        try:
            return self.history.at(as_of)
        except RuleSetError as error:
            raise (NoRulesThenError if requested else NoRulesError)(str(error)) from None

    def at(self, as_of: str | None) -> RuleSet:
        """The version in force at an ISO 8601 time, or now.

        Raises
        ------
        RequestError
            The time is not one.
        NotFoundError
            No version is in force then.
        """
        try:
            return self.now() if as_of is None else self.history.at(parse_time(as_of))
        except DataError as error:
            raise RequestError(str(error)) from None
        except RuleSetError as error:
            raise NotFoundError(str(error)) from None

    def now(self) -> RuleSet:
        """The version in force now; before the first bar of a market's clock the newest one.

        Raises
        ------
        RuleSetError
            No version is in force now.
        """
        now = self.live.state.newest_known
        if self.clock == "wall":
            now = max(time.time_ns(), now or 0)
        return self.history.versions[-1] if now is None else self.history.at(now)

    def health_error(self) -> str | None:
        """Why no rules are in force now; None where some are."""
        try:
            self.now()
        except RuleSetError as error:
            return str(error)
        return None

    def targets(self) -> Collection[int]:
        """Horizons in hours that the rules in force now target; none without rules."""
        try:
            return self.now().add_on.targets
        except RuleSetError:
            return ()

    def cash_assets(self) -> frozenset[str]:
        """Assets that count as cash in any version."""
        return frozenset(
            asset for version in self.history.versions for asset in version.collateral.cash_assets
        )
