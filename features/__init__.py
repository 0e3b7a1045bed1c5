"""The numbers the model sees, computed by the same kernels over history and live."""

import market  # noqa: F401 - kernels are kept by the digest of all sources
