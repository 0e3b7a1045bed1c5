"""Enforcement in the ledger: rows, records, and the engine of a live book."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
