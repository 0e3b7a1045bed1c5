"""Controls: commands of people and of the venue, modes, overrides and their approval."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
