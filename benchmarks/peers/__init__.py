"""Services of other makers around the same ONNX model; they run in ``.venv-peers``."""
