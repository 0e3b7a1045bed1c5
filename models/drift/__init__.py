"""Drift of a model's inputs and forecasts: what a bundle holds of its training rows, and distances
of other rows from them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
