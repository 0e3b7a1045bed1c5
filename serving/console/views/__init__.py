"""What pages show, computed from the operations of the endpoint: plain values and charts."""

__all__: list[str] = []
