"""Which version of the rules applies: to a decision, now, or at a time that is asked for."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import parse_time
from market.core.errors import DataError, RuleSetError
from monitoring.market_state.live_market import LiveMarket
from serving.http.problems import invalid, not_found, unavailable
from serving.schemas.read_messages import RuleSetInfo
from serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The versions of the rules beside the clock of an endpoint.

    Attributes
    ----------
    history:
        The versions.
    live:
        Whose bars and quotes are the clock where the wall clock does not count.
    settings:
        Which clock counts.
    """

    history: RuleHistory
    live: LiveMarket
    settings: ServingSettings

    def of_decision(self, as_of: int, *, asked: bool) -> RuleSet:
        """The version in force at the time of a decision.

        Raises
        ------
        ProblemError
            None is: 422 where the request named the time, else 503.
        """
        try:
            return self.history.at(as_of)
        except RuleSetError as error:
            if asked:
                raise invalid(str(error)) from None
            raise unavailable("no-rules", str(error)) from None

    def now(self) -> RuleSet:
        """The version in force now; before the first bar of a market's clock the newest one.

        Raises
        ------
        RuleSetError
            None is.
        """
        now = self.live.moment.newest_known
        if self.settings.clock == "wall":
            now = max(time.time_ns(), now or 0)
        return self.history.versions[-1] if now is None else self.history.at(now)

    def trouble(self) -> str | None:
        """Why no rules are in force now; None where some are."""
        try:
            self.now()
        except RuleSetError as error:
            return str(error)
        return None

    def targets(self) -> Collection[int]:
        """Horizons that the rules in force now target; none where no rules are."""
        try:
            return self.now().add_on.targets
        except RuleSetError:
            return ()

    def cash_assets(self) -> frozenset[str]:
        """What counts as cash in any version."""
        return frozenset(
            asset for version in self.history.versions for asset in version.collateral.cash_assets
        )

    def shown(self, as_of: str | None) -> RuleSetInfo:
        """The version in force at a time, or now.

        Raises
        ------
        ProblemError
            422: the time is not one; 404: no version is in force then.
        """
        try:
            ruleset = self.now() if as_of is None else self.history.at(parse_time(as_of))
        except DataError as error:
            raise invalid(str(error)) from None
        except RuleSetError as error:
            raise not_found(str(error)) from None
        return RuleSetInfo(ruleset.sha256, ruleset.content())
