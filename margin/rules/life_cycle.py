"""``[life_cycle]`` of a rule set: levels, deadlines and buffers of a margin call.

A rule set without the table takes the defaults stated here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from margin.rules.values import NonNegative, Share


class LifeCycleRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of `margin.life_cycle`; every share is one of the maintenance margin.

    Attributes
    ----------
    call_level:
        What equity must meet: ``maintenance`` margin, or ``total``, the add-on included.
    warning_share:
        A warning is given while equity is less than this above the call level.
    cure_share:
        A call is met, and a liquidation over, only this much above the call level.
    calm_share:
        A warning ends only this much above the level of the warning.
    stop_out_share:
        Equity below this share of the maintenance margin is liquidated at once, whatever the
        deadline; 0: only equity below nothing.
    call_hours:
        Time to meet a call.
    grace_hours:
        Time after a missed deadline until liquidation; the account may only reduce meanwhile.
    reduce_only:
        From when an account may only reduce: from the ``call`` on, or from the ``deadline``.
    """

    call_level: Literal["maintenance", "total"] = "maintenance"
    warning_share: NonNegative = 0.25
    cure_share: NonNegative = 0.05
    calm_share: NonNegative = 0.05
    stop_out_share: Share = 0.5
    call_hours: NonNegative = 24.0
    grace_hours: NonNegative = 0.0
    reduce_only: Literal["call", "deadline"] = "deadline"
