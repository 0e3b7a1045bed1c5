"""Faults of the whole service as processes: kills, databases, bundles, clocks, bad clients."""
