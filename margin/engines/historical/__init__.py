"""Historical simulation: margin from the losses of past market moves at today's prices."""
