from .market_factor import market_beta as market_beta, market_correlation as market_correlation
from .mean_correlation import correlation_shift as correlation_shift

__all__ = ["correlation_shift", "market_beta", "market_correlation"]
