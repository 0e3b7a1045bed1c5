"""The passes over a book: by the rules, and by the model in chunks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
