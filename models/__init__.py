"""What a trained model is: schema, bundle, ONNX export, scorer, registry."""

import market  # noqa: F401 - kernels are kept by the digest of all sources
