"""ONNX: export, audit, parity, scorer."""
