"""Rule sets: parameters as data, dated versions, presets."""
