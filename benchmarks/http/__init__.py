"""The endpoint over the wire, beside its peers: ``make bench-http``."""
