"""What the rules demand: requirement, floors and the bounds of the add-on. Deterministic."""

import market  # noqa: F401 - kernels are kept by the digest of all sources
