"""What happened: instruments, bars, quotes and accounts, and where they come from."""

from market.core.kernel_cache import use_kernel_cache

use_kernel_cache()  # before the first kernel of any package is compiled
