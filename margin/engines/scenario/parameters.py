"""The parameters that the kernels read, as one tuple of numbers."""

from __future__ import annotations

from typing import NamedTuple

from margin.engines.scenario.rules import ScenarioRules

SECONDS_PER_DAY = 86_400.0
SECONDS_PER_YEAR = 365.0 * SECONDS_PER_DAY
SETTLING_SECONDS = 1_800.0
"""A forward settles to the average of so many last seconds."""


class Parameters(NamedTuple):
    """Fields of `ScenarioRules`, times in seconds; compiled kernels take it as it is."""

    vol_range_up: float
    vol_range_down: float
    short_term_power: float
    long_term_power: float
    dte_floor_seconds: float
    min_vol_after_up_shock: float
    long_discount: float
    long_rate_mult: float
    long_rate_add: float
    short_discount: float
    short_rate_mult: float
    short_rate_add: float
    basis_add_factor: float
    basis_mult_factor: float
    linear_base_cap: float
    linear_cbase: float
    absolute_base_cap: float
    absolute_cbase: float
    min_kstar: float
    width_scale: float
    vol_param_static: float
    vol_param_scale: float

    @classmethod
    def of(cls, rules: ScenarioRules) -> Parameters:
        """Those of a rule set."""
        return cls(
            rules.vol_range_up,
            rules.vol_range_down,
            rules.short_term_power,
            rules.long_term_power,
            rules.dte_floor_days * SECONDS_PER_DAY,
            rules.min_vol_after_up_shock,
            rules.static_discount_long,
            rules.long_rate_mult,
            rules.long_rate_add,
            rules.static_discount_short,
            rules.short_rate_mult,
            rules.short_rate_add,
            rules.basis_add_factor,
            rules.basis_mult_factor,
            rules.skew_linear_base_cap,
            rules.skew_linear_cbase,
            rules.skew_abs_base_cap,
            rules.skew_abs_cbase,
            rules.skew_min_kstar,
            rules.skew_width_scale,
            rules.skew_vol_param_static,
            rules.skew_vol_param_scale,
        )
