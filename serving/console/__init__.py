"""The console: pages of the endpoint for people, rendered on the server."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
