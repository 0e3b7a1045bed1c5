"""Checks of requests: host, origin, content type, keys, rate limits; TLS."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
