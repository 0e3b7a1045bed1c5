"""The tier engine: rates that rise with the notional of a position."""
