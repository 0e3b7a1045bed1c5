"""The add-on: bounds, solver, explanation, reduction."""
