"""Which columns each set of trees may read."""

from __future__ import annotations

from collections.abc import Sequence

from features.registry import prior_distances

PLAIN_COLUMNS = (
    "distance_ewma_volatility_3h",
    "distance_ewma_volatility_12h",
    "distance_ewma_volatility_72h",
    "distance_realised_volatility_1h",
    "distance_realised_volatility_6h",
    "distance_realised_volatility_24h",
    "distance_realised_volatility_168h",
    "distance_parkinson_volatility_24h",
    "distance_garman_klass_volatility_24h",
    "distance_rogers_satchell_volatility_24h",
    "distance_yang_zhang_volatility_24h",
    "distance_long_volatility",
    "book_ewma_volatility_3h",
    "book_ewma_volatility_12h",
    "book_ewma_volatility_72h",
    "book_realised_volatility_1h",
    "book_realised_volatility_6h",
    "book_realised_volatility_24h",
    "book_realised_volatility_168h",
    "book_parkinson_volatility_24h",
    "book_garman_klass_volatility_24h",
    "book_rogers_satchell_volatility_24h",
    "book_yang_zhang_volatility_24h",
    "book_long_volatility",
    "book_stressed_volatility_168h",
    "book_downside_volatility_24h",
    "book_jump_share_24h",
    "book_volatility_of_volatility_168h",
    "book_drawdown_168h",
    "book_return_zscore_72h",
    "book_hour_of_week_seasonality",
    "book_implied_volatility",
    "book_variance_risk_premium",
    "book_skew_25d",
    "book_atm_term_slope",
    "book_smile_curvature",
    "book_amihud_illiquidity_24h",
    "book_kyle_lambda_24h",
    "book_roll_spread_24h",
    "book_corwin_schultz_spread_24h",
    "book_edge_spread_24h",
    "book_volume_zscore_168h",
    "book_relative_turnover_24h",
    "book_basis_24h",
    "book_open_interest_change_24h",
    "book_open_interest_days_168h",
    "book_mean_correlation",
    "book_correlation_shift",
    "book_absorption_ratio",
    "headroom_share",
    "equity_share",
    "shock_distance",
    "collateral_share",
    "wrong_way_share",
    "net_share",
    "herfindahl",
    "adv_share",
    "book_return",
    "book_funding",
    "market_exposure",
    "delta_share",
    "gamma_share",
    "vega_share",
)
"""What the plain LightGBM reads: the columns there were before volatility forecasts. The list is
frozen, so that the baseline stays what it was when features are added."""

BOOK_COLUMNS = (
    "book_log_volatility_1h",
    "book_log_volatility_2h",
    "book_log_volatility_4h",
    "book_log_volatility_8h",
    "book_log_volatility_16h",
    "book_log_volatility_24h",
    "book_log_volatility_48h",
    "book_log_volatility_96h",
    "book_log_volatility_168h",
    "book_log_volatility_336h",
    "book_log_volatility_720h",
    "book_log_ewma_volatility_16h",
    "book_log_ewma_volatility_64h",
    "book_log_ewma_volatility_256h",
    "book_log_volatility_long_run",
    "book_log_volatility_dispersion_168h",
    "book_scaled_return_1h",
    "book_scaled_return_6h",
    "book_scaled_return_24h",
    "book_scaled_return_168h",
    "book_absolute_scaled_return_1h",
    "book_absolute_scaled_return_24h",
    "book_seasonal_log_volatility",
    "book_log_turnover_ratio_1h",
    "book_log_turnover_ratio_6h",
)
"""Means over the book of what the volatility forecast is made of."""

SMALL_COLUMNS = (
    "forecast_distance_1h",
    "forecast_distance_8h",
    "forecast_distance_24h",
    "long_run_distance",
    "headroom_share",
    "equity_share",
    "forecast_term_structure",
    "forecast_diversification",
    "long_run_ratio",
    "fast_correlation_ratio",
    "net_share",
    "herfindahl",
    "book_return",
    "book_mean_correlation",
    "book_absorption_ratio",
    *BOOK_COLUMNS,
)
"""What the small trees on the prior read."""


def forecast_distances(horizons: Sequence[int]) -> tuple[str, ...]:
    """The columns that the priors of some horizons in hours read, each once."""
    return tuple(dict.fromkeys(name for hours in horizons for name in prior_distances(hours)))
