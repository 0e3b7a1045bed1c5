"""Margin calls: what they are, their events, the cure ledger, and the engine that moves them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
