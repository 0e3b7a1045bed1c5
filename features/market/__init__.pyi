from . import correlation as correlation, liquidity as liquidity, volatility as volatility
from .joint_rolling import HEADER as HEADER
from .option_surface import surface_figures as surface_figures

__all__ = ["HEADER", "correlation", "liquidity", "surface_figures", "volatility"]
