"""Live market state and what keeps it current."""
