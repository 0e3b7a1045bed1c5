"""What a life cycle needs to know of a rule set: levels, deadlines and consequences of calls."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET

from margin.rules.enforcement import CallTypeRules, EnforcementRules
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.ruleset import RuleSet

PROACTIVE, INITIAL, MAINTENANCE, SETTLEMENT = range(4)
"""Columns of `margin.rules.enforcement.CALL_TYPES`."""

_NO_CALLS = 1.0
"""Stop-out at this share of the maintenance margin leaves no time for a call."""


@dataclass(frozen=True, slots=True)
class CallRules:
    """Rules of the life cycle of accounts of one client class.

    Attributes
    ----------
    types:
        Of each of `margin.rules.enforcement.CALL_TYPES`; None where no such call is made.
    life_cycle:
        Warning, calm, stop-out and end of a liquidation.
    total_level:
        The level of ``maintenance_margin`` includes the add-on.
    waiting_hours:
        How long a call waits for its acknowledgement; 0: its hours run from its commit.
    """

    types: tuple[CallTypeRules | None, ...]
    life_cycle: LifeCycleRules
    total_level: bool = False
    waiting_hours: float = 0.0

    @classmethod
    def plain(cls, rules: LifeCycleRules) -> CallRules:
        """One type of call by ``[life_cycle]`` alone, as states are moved without enforcement."""
        call = CallTypeRules(rules.call_hours, rules.grace_hours, rules.cure_share)
        return cls((None, None, call, None), rules, rules.call_level == "total")

    @classmethod
    def of(cls, ruleset: RuleSet, client_class: str = "") -> CallRules:
        """The calls of a rule set for a client class."""
        rules = enforcement_of(ruleset)
        return cls(
            rules.types(client_class),
            ruleset.life_cycle_or_default,
            waiting_hours=rules.waiting_hours,
        )


def enforcement_of(ruleset: RuleSet) -> EnforcementRules:
    """``[enforcement]`` of a rule set; where it is absent, `default_enforcement`."""
    rules = ruleset.enforcement
    return default_enforcement(ruleset.life_cycle_or_default) if rules is UNSET else rules


def default_enforcement(rules: LifeCycleRules) -> EnforcementRules:
    """The calls that ``[life_cycle]`` implies.

    A rule set that stops an account out at its maintenance margin makes no margin calls: a
    proactive call is advice there. Else a call on the maintenance margin ends in liquidation, and
    a proactive or a settlement call in a restriction to closing trades; with ``call_level =
    "total"`` a proactive call ends in liquidation too.
    """
    if rules.stop_out_share >= _NO_CALLS:
        return EnforcementRules(CallTypeRules(consequence="advice", cure_share=rules.cure_share))
    hours, grace, cure = rules.call_hours, rules.grace_hours, rules.cure_share
    total = rules.call_level == "total"
    return EnforcementRules(
        proactive=CallTypeRules(hours, grace, cure, "liquidation" if total else "reduce_only"),
        maintenance_margin=CallTypeRules(hours, grace, cure),
        settlement=CallTypeRules(hours, grace, 0.0, "reduce_only"),
    )
