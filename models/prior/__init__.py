"""The monotone prior of a model: its basis, its numbers, and its forms for scoring."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
