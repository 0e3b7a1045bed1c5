"""The simulated venue: a process that feeds the endpoint with a market that moves on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
