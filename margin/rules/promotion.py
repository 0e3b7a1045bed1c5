"""``[promotion]`` of a rule set: how far a requirement may move without a person's decision.

A rule set without the table takes the default stated here.
"""

from __future__ import annotations

from msgspec import Struct

from margin.rules.values import NonNegative


class PromotionRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a change of the model.

    Attributes
    ----------
    max_requirement_change:
        Largest relative change, up or down, of the total requirement of the reference book under
        a new model. A model that moves it further is kept as challenger until
        ``margincast promote``.
    """

    max_requirement_change: NonNegative = 0.05
