"""``[standard]`` of a rule set: rule margin, position by position and expiry by expiry.

``margin/rulesets/derive-srm.toml`` documents every key; `margin.standard` gives the formulas.
"""

from __future__ import annotations

from msgspec import Struct

from margin.rule_values import NonNegative


class StandardRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters; see `margin.standard`."""

    depeg_threshold: NonNegative
    depeg_factor: NonNegative
    im_perp: NonNegative
    mm_perp: NonNegative
    perp_threshold: NonNegative
    option_threshold: NonNegative
    base_threshold: NonNegative
    oc_factor: NonNegative
    max_spot: NonNegative
    min_spot: NonNegative
    mm_call_spot: NonNegative
    mm_put_spot: NonNegative
    mm_put_mtm: NonNegative
    unpaired_im: NonNegative
    unpaired_mm: NonNegative
    mm_offset: NonNegative
    base_factor: NonNegative
    base_im_scale: NonNegative
