"""How a model is made and judged: labels, splits, fit, calibration, evaluation."""

import lazy_loader

import market  # noqa: F401 - kernels are kept by the digest of all sources

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
