"""The numbers the model sees, computed by the same kernels over history and live."""
