"""Historical simulation: what the past would do to a portfolio today, and the margin it asks."""
