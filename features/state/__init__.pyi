from .market_state import MarketFeatures as MarketFeatures, MarketState as MarketState
from .point_in_time import advance_through as advance_through
from .snapshot import MarketSnapshot as MarketSnapshot
from .volatility_fit import (
    fit_coefficients as fit_coefficients,
    under_coefficients as under_coefficients,
)

__all__ = [
    "MarketFeatures",
    "MarketSnapshot",
    "MarketState",
    "advance_through",
    "fit_coefficients",
    "under_coefficients",
]
