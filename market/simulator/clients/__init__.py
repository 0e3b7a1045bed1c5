"""The clients of a venue: a plausible book for a demonstration, no training data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
