"""Questions about one portfolio that change nothing: trades, sizes, remedies, differences."""
