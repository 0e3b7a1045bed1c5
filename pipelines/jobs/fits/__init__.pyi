from .surface import MISFIT as MISFIT, fit_surfaces as fit_surfaces
from .volatility import fit_volatility as fit_volatility

__all__ = ["MISFIT", "fit_surfaces", "fit_volatility"]
