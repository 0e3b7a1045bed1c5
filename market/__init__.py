"""What happened: instruments, bars, quotes and accounts, and where they come from."""

import lazy_loader

from market.core.kernel_cache import use_kernel_cache

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

use_kernel_cache()  # before the first kernel of any package is compiled
