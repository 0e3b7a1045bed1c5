from . import forecast as forecast
from .ewma import ewma_volatility as ewma_volatility
from .implied import (
    atm_term_slope as atm_term_slope,
    implied_volatility as implied_volatility,
    skew_25d as skew_25d,
    smile_curvature as smile_curvature,
    variance_risk_premium as variance_risk_premium,
)
from .long_run import long_volatility as long_volatility
from .range_volatility import (
    garman_klass_volatility as garman_klass_volatility,
    parkinson_volatility as parkinson_volatility,
    rogers_satchell_volatility as rogers_satchell_volatility,
    yang_zhang_volatility as yang_zhang_volatility,
)
from .realised import (
    downside_volatility as downside_volatility,
    realised_volatility as realised_volatility,
    stressed_volatility as stressed_volatility,
)
from .seasonality import hour_of_week_seasonality as hour_of_week_seasonality

__all__ = [
    "atm_term_slope",
    "downside_volatility",
    "ewma_volatility",
    "forecast",
    "garman_klass_volatility",
    "hour_of_week_seasonality",
    "implied_volatility",
    "long_volatility",
    "parkinson_volatility",
    "realised_volatility",
    "rogers_satchell_volatility",
    "skew_25d",
    "smile_curvature",
    "stressed_volatility",
    "variance_risk_premium",
    "yang_zhang_volatility",
]
