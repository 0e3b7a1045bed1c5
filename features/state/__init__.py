"""Market state: features of every symbol, moved bar by bar, and snapshots of it."""
