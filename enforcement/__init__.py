"""Enforcement: margin calls, their notifications and instructions, controls and liquidation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
