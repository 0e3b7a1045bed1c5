from .spline_basis import (
    FORECAST_KNOTS as FORECAST_KNOTS,
    LONG_RUN_KNOTS as LONG_RUN_KNOTS,
    ramps as ramps,
)
from .spline_prior import DEFAULT_KNOTS as DEFAULT_KNOTS, SplinePrior as SplinePrior

__all__ = ["DEFAULT_KNOTS", "FORECAST_KNOTS", "LONG_RUN_KNOTS", "SplinePrior", "ramps"]
