"""Enforcement over history: the live engine walks the closes of a market, and its record."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
