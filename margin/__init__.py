"""What the rules demand: requirement, floors and the bounds of the add-on. Deterministic."""
