"""Delivery of notifications and instructions: the outbox, its worker, and the sinks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
