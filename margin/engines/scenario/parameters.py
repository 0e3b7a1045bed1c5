"""The parameters that the kernels read, as one tuple of numbers."""

from __future__ import annotations

from typing import NamedTuple

from margin.engines.scenario.rules import ScenarioRules

SECONDS_PER_DAY = 86_400.0
SECONDS_PER_YEAR = 365.0 * SECONDS_PER_DAY
SETTLING_SECONDS = 1_800.0
"""A forward settles to the average of so many last seconds."""


class Parameters(NamedTuple):
    """Figures of `ScenarioRules` by their keys, the floor of the time to expiry in seconds;
    compiled kernels take it as it is."""

    dte_floor_seconds: float
    vol_range_up: float
    vol_range_down: float
    short_term_power: float
    long_term_power: float
    min_vol_after_up_shock: float
    static_discount_long: float
    long_rate_mult: float
    long_rate_add: float
    static_discount_short: float
    short_rate_mult: float
    short_rate_add: float
    basis_add_factor: float
    basis_mult_factor: float
    skew_linear_base_cap: float
    skew_linear_cbase: float
    skew_abs_base_cap: float
    skew_abs_cbase: float
    skew_min_kstar: float
    skew_width_scale: float
    skew_vol_param_static: float
    skew_vol_param_scale: float

    @classmethod
    def of(cls, rules: ScenarioRules) -> Parameters:
        """Those of a rule set."""
        floor = rules.dte_floor_days * SECONDS_PER_DAY
        return cls(floor, *(getattr(rules, key) for key in cls._fields[1:]))
