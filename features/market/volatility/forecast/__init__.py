"""The volatility forecast: a pooled regression on the last year of hourly bars."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
