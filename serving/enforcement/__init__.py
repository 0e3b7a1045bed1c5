"""Calls, instructions and controls without HTTP: look-ups, and commands for the leader."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
