from .coefficients import (
    FORECAST_HORIZONS as FORECAST_HORIZONS,
    TERMS as TERMS,
    VolatilityCoefficients as VolatilityCoefficients,
    shipped_coefficients as shipped_coefficients,
)
from .regressors import REGRESSORS as REGRESSORS

__all__ = [
    "FORECAST_HORIZONS",
    "REGRESSORS",
    "TERMS",
    "VolatilityCoefficients",
    "shipped_coefficients",
]
