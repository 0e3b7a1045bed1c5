"""What the command line says about itself: examples, exit codes, version, completion."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
