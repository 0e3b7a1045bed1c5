"""``[enforcement.approval]``: which overrides count at once, and which need a second person.

A rule set without the table takes the defaults stated here: every override needs a second person.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from margin.rules.values import NonNegative, Positive

OverrideType = Literal["add_on", "deadline"]


class ApprovalLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the matrix, e.g. ``[enforcement.approval.add_on]``.

    Attributes
    ----------
    automatic_below:
        An override of a smaller amount counts at once, settlement currency. The amount of an
        override of an add-on is how far it moves the add-on, that of a deadline is what is
        outstanding. 0: none counts at once.
    """

    automatic_below: NonNegative = 0.0


class ApprovalRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The approval matrix by type and amount.

    Attributes
    ----------
    add_on, deadline:
        The row of each type of override.
    pending_hours:
        An override that nobody approved for this long lapses.
    longest_hours:
        An override ends this long after its request at the latest.
    """

    add_on: ApprovalLimit = ApprovalLimit()
    deadline: ApprovalLimit = ApprovalLimit()
    pending_hours: Positive = 24.0
    longest_hours: Positive = 720.0

    def is_automatic(self, kind: OverrideType, amount: float) -> bool:
        """Whether an override of an amount needs no second person."""
        limit = self.add_on if kind == "add_on" else self.deadline
        return amount < limit.automatic_below
