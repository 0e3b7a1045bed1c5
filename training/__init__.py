"""How a model is made and judged: labels, splits, fit, calibration, evaluation."""

import market  # noqa: F401 - kernels are kept by the digest of all sources
