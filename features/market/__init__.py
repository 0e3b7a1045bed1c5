"""Market features: volatility, liquidity and correlation kernels and what they share."""
