"""Events that labels can be about: which level of equity an account falls below.

Each event has a level in units of the maintenance margin of the rule set, as the engine computes
it, and happens when equity is below it:

- ``warning``: 1 plus ``[life_cycle] warning_share``; the account gets a warning;
- ``call``: 1; equity is below the maintenance margin. A venue that makes no margin call liquidates
  there;
- ``liquidation``: ``[life_cycle] stop_out_share``; the account is liquidated whatever deadline a
  call has;
- ``bad_debt``: 0; equity is negative, and what is missing is somebody else's loss.

``[life_cycle] call_level = "total"`` asks for the add-on too, which depends on the model: it does
not move the levels of labels. A rule set without ``[life_cycle]`` takes the defaults of the table.
"""

from __future__ import annotations

from typing import Literal, get_args

from margin.rules.ruleset import RuleSet
from market.core.errors import RuleSetError

Event = Literal["warning", "call", "liquidation", "bad_debt"]
EVENTS: tuple[Event, ...] = get_args(Event)


def event_level(event: Event, ruleset: RuleSet) -> float:
    """Level of an event: share of the maintenance margin that equity falls below.

    Raises
    ------
    RuleSetError
        The rule set has no such event of its own.
    """
    rules = ruleset.life_cycle_or_default
    if event == "warning":
        if rules.warning_share == 0.0:
            raise RuleSetError(
                f"rule set {ruleset.name!r} gives no warning before a call ([life_cycle] "
                'warning_share = 0); choose [training] event = "call"'
            )
        return 1.0 + rules.warning_share
    if event == "liquidation":
        if rules.stop_out_share == 0.0:
            raise RuleSetError(
                f"rule set {ruleset.name!r} liquidates at once only below no equity "
                '([life_cycle] stop_out_share = 0); choose [training] event = "bad_debt"'
            )
        return rules.stop_out_share
    return 1.0 if event == "call" else 0.0
