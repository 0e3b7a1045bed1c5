"""``[scenario]`` of a rule set: portfolio margin as the worst of a grid of scenarios.

``margin/rules/presets/derive-pmrm2.toml`` documents every key; `margin.engines.scenario` gives the
formulas. Prices and charges are 0 or more; exponents and skew caps are any number.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from margin.rules.values import NonNegative

Vol = Literal["up", "none", "down", "linear", "abs"]


class GridRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario: spot times `spot`, vols moved as `vol` says, result times `dampening`."""

    spot: NonNegative
    vol: Vol
    dampening: NonNegative = 1.0


class ScenarioRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The grid and its parameters; see `margin.engines.scenario`."""

    grid: Annotated[tuple[GridRow, ...], Meta(min_length=1)]
    mm_factor: NonNegative
    im_factor: NonNegative
    short_rate_mult: float
    long_rate_mult: float
    short_rate_add: float
    long_rate_add: float
    static_discount_long: NonNegative
    static_discount_short: NonNegative
    vol_range_up: NonNegative
    vol_range_down: NonNegative
    short_term_power: float
    long_term_power: float
    dte_floor_days: NonNegative
    min_vol_after_up_shock: NonNegative
    basis_spot_up: NonNegative
    basis_spot_down: NonNegative
    basis_add_factor: NonNegative
    basis_mult_factor: NonNegative
    peg_threshold: NonNegative
    peg_factor: NonNegative
    oracle_conf_threshold: NonNegative
    oracle_conf_factor: NonNegative
    perp_mm_contingency: NonNegative
    perp_im_extra_contingency: NonNegative
    short_option_mm_contingency: NonNegative
    short_option_im_extra_contingency: NonNegative
    skew_linear_base_cap: float
    skew_linear_cbase: float
    skew_abs_base_cap: float
    skew_abs_cbase: float
    skew_min_kstar: NonNegative
    skew_width_scale: NonNegative
    skew_vol_param_static: float
    skew_vol_param_scale: float
    delta_net_rate: NonNegative = 0.0
    delta_hedged_rate: NonNegative = 0.0
    underlyings: Literal["one", "sum"] = "one"
