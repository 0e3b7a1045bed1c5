"""Every feature, once. Contract tests, documentation and benchmarks are driven from here.

To add one: write a file with its factory beside its relatives, import it and put one line here.
CONTRIBUTING.md shows an example.
"""

from __future__ import annotations

import numpy as np

from features.account.adv_share import adv_share
from features.account.aggregates import FIRST_VOLATILITY
from features.account.book_averages import (
    book_funding,
    book_mean,
    book_return,
    concentration,
    market_exposure,
)
from features.account.bounded_shares import (
    collateral_share,
    equity_share,
    headroom_share,
    wrong_way_share,
)
from features.account.distance import distance, shock_distance
from features.account.exposure_shares import (
    book_volatility,
    delta_share,
    gamma_share,
    net_share,
    vega_share,
)
from features.account.prior import prior_logit
from features.definition import (
    AccountFeature,
    BookForm,
    CrossFeature,
    FeatureGroup,
    GroupFeature,
    MarketFeature,
)
from features.market.correlation.absorption_ratio import absorption_ratio
from features.market.correlation.market_factor import market_beta, market_correlation
from features.market.correlation.mean_correlation import correlation_shift, mean_correlation
from features.market.liquidity.amihud import amihud_illiquidity
from features.market.liquidity.average_daily_volume import average_daily_volume
from features.market.liquidity.corwin_schultz import corwin_schultz_spread
from features.market.liquidity.edge import edge_spread
from features.market.liquidity.kyle_lambda import kyle_lambda
from features.market.liquidity.open_interest import open_interest_change, open_interest_days
from features.market.liquidity.perpetual import basis, funding_rate
from features.market.liquidity.roll import roll_spread
from features.market.liquidity.turnover import relative_turnover
from features.market.liquidity.volume_zscore import volume_zscore
from features.market.volatility.drawdown import drawdown
from features.market.volatility.ewma import ewma_volatility
from features.market.volatility.forecast import forecast
from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS as FORECAST_HORIZONS,
    shipped_coefficients,
)
from features.market.volatility.forecast.columns import (
    absolute_scaled_return,
    log_ewma_volatility,
    log_turnover_ratio,
    log_volatility,
    log_volatility_dispersion,
    log_volatility_long_run,
    scaled_return,
    seasonal_log_volatility,
    seasonal_log_volatility_ahead,
    volatility_forecast,
)
from features.market.volatility.forecast.regressors import (
    HALF_LIVES,
    REGRESSORS as REGRESSORS,
    RETURN_WINDOWS,
    WINDOWS,
)
from features.market.volatility.implied import (
    atm_term_slope,
    implied_volatility,
    skew_25d,
    smile_curvature,
    variance_risk_premium,
)
from features.market.volatility.jump_share import jump_share
from features.market.volatility.long_run import long_volatility
from features.market.volatility.range_volatility import (
    garman_klass_volatility,
    parkinson_volatility,
    rogers_satchell_volatility,
    yang_zhang_volatility,
)
from features.market.volatility.realised import (
    downside_volatility,
    realised_volatility,
    stressed_volatility,
)
from features.market.volatility.return_zscore import return_zscore
from features.market.volatility.seasonality import hour_of_week_seasonality
from features.market.volatility.trailing_return import trailing_return
from features.market.volatility.volatility_of_volatility import volatility_of_volatility

WARM_UP_HOURS = 168
"""History that a symbol needs before it is scored."""

STALE_INTERVALS = 2
"""Data are stale once the newest bar closed more than so many intervals ago."""

CORRELATION_HALF_LIFE_HOURS = 72.0
FAST_CORRELATION_HALF_LIFE_HOURS = 12.0

MARKET_FEATURES: tuple[MarketFeature, ...] = (
    ewma_volatility(3),
    ewma_volatility(12),
    ewma_volatility(72),
    realised_volatility(1),
    realised_volatility(6),
    realised_volatility(24),
    realised_volatility(168),
    parkinson_volatility(24),
    garman_klass_volatility(24),
    rogers_satchell_volatility(24),
    yang_zhang_volatility(24),
    long_volatility(),
    stressed_volatility(168),
    downside_volatility(24),
    jump_share(24),
    volatility_of_volatility(12, 168),
    drawdown(168),
    return_zscore(72),
    hour_of_week_seasonality(),
    trailing_return(24),
    amihud_illiquidity(24),
    kyle_lambda(24),
    roll_spread(24),
    corwin_schultz_spread(24),
    edge_spread(24),
    volume_zscore(168),
    relative_turnover(24, 168),
    average_daily_volume(168),
    funding_rate(24),
    basis(24),
    open_interest_change(24),
    open_interest_days(168),
)

CROSS_FEATURES: tuple[CrossFeature, ...] = (
    mean_correlation("slow"),
    mean_correlation("fast"),
    correlation_shift(),
    absorption_ratio(),
    market_correlation(),
    market_beta(),
    implied_volatility(),
    variance_risk_premium(),
    skew_25d(),
    atm_term_slope(),
    smile_curvature(),
)

FEATURE_GROUPS: tuple[FeatureGroup, ...] = (
    FeatureGroup(
        name="volatility_forecast",
        columns=(
            *(log_volatility(hours) for hours in WINDOWS),
            *(log_ewma_volatility(hours) for hours in HALF_LIVES),
            log_volatility_long_run(),
            log_volatility_dispersion(),
            *(scaled_return(hours) for hours in RETURN_WINDOWS),
            absolute_scaled_return(1),
            absolute_scaled_return(24),
            seasonal_log_volatility(),
            log_turnover_ratio(1),
            log_turnover_ratio(6),
            *(seasonal_log_volatility_ahead(hours) for hours in FORECAST_HORIZONS),
            *(volatility_forecast(hours) for hours in FORECAST_HORIZONS),
        ),
        kernel=forecast.kernel,
        state_shapes=forecast.state_shapes,
        params=(np.array(FORECAST_HORIZONS), shipped_coefficients().values),
    ),
)
GROUP_FEATURES: tuple[GroupFeature, ...] = tuple(f for g in FEATURE_GROUPS for f in g.columns)

_FAMILIES = ("volatility", "liquidity", "correlation", "momentum")
_MARKET: tuple[MarketFeature | CrossFeature | GroupFeature, ...] = (
    *MARKET_FEATURES,
    *CROSS_FEATURES,
    *GROUP_FEATURES,
)


def _columns_of_form(form: BookForm) -> tuple[str, ...]:
    """Market columns that reach a model in one form, by family and else in their order."""
    columns = [feature for feature in _MARKET if feature.book_form == form]
    return tuple(f.name for f in sorted(columns, key=lambda f: _FAMILIES.index(f.family)))


MARKET_COLUMNS: tuple[str, ...] = tuple(f.name for f in _MARKET)
"""Columns of the market feature array, in order."""

REQUIRED_COLUMNS: tuple[str, ...] = tuple(
    f.name for f in _MARKET if isinstance(f, GroupFeature) or not f.needs_exogenous
)
"""What a symbol needs to be scored; the others a market may lack."""

VOLATILITIES = _columns_of_form("volatility")
"""Estimates under which a book's own volatility is taken."""

FORECAST_VOLATILITIES = _columns_of_form("forecast")
"""Forecasts under which a book's own volatility is taken, by `FORECAST_HORIZONS`."""

BOOK_MEANS = _columns_of_form("mean")
"""Market columns whose average over a book, weighted by notional, is an account feature."""

CROSS_VOLATILITY = "ewma_volatility_72h"
"""The volatility that goes with the correlation matrix: same weights, same half-life."""

ADV = "average_daily_volume_168h"

PRIOR_VOLATILITIES = (
    "ewma_volatility_12h",
    "ewma_volatility_72h",
    "realised_volatility_24h",
    "realised_volatility_168h",
)
"""Averaged (as variances) into the volatility of the structural prior."""

_FAMILY = {f.name: f.family for f in _MARKET}

HORIZONS = (1, 8, 24)

ACCOUNT_FEATURES: tuple[AccountFeature, ...] = (
    *(prior_logit(hours) for hours in HORIZONS),
    *(distance(i, name) for i, name in enumerate(VOLATILITIES)),
    *(book_volatility(i, name) for i, name in enumerate(VOLATILITIES)),
    *(
        book_mean(FIRST_VOLATILITY + i, name, _FAMILY[name])
        for i, name in enumerate(BOOK_MEANS, len(VOLATILITIES))
    ),
    headroom_share(),
    equity_share(),
    shock_distance(),
    collateral_share(),
    wrong_way_share(),
    net_share(),
    concentration(),
    adv_share(),
    book_return(),
    book_funding(),
    market_exposure(),
    delta_share(),
    gamma_share(),
    vega_share(),
)

ACCOUNT_COLUMNS: tuple[str, ...] = tuple(f.name for f in ACCOUNT_FEATURES)

OPTION_FEATURES: tuple[str, ...] = tuple(f.name for f in ACCOUNT_FEATURES if f.options_only)
"""Account features that are 0 in every book without options: a population without any says
nothing of them."""


def prior_column(horizon: int) -> str:
    """Name of the structural prior's column for a horizon in hours."""
    return f"prior_logit_{horizon}h"
