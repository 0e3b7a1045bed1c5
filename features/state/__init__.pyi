from .market_state import MarketFeatures as MarketFeatures, MarketState as MarketState
from .point_in_time import advance_through as advance_through
from .snapshot import MarketSnapshot as MarketSnapshot

__all__ = ["MarketFeatures", "MarketSnapshot", "MarketState", "advance_through"]
