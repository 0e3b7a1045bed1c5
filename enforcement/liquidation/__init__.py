"""Liquidation of called accounts: instructions of each step, and who bears what is left."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
