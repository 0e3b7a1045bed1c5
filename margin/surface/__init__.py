"""The volatility surface: implied vols, SVI slices without arbitrage, interpolation in time."""
