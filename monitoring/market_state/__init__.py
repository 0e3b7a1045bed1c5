"""Live market state: bars, steps, exogenous series."""
