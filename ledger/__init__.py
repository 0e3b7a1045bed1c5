"""What was decided: an append-only, hash-chained record that can be verified and replayed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
