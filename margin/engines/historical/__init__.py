"""Historical simulation: margin from the losses of past market moves at today's prices."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
