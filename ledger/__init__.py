"""What was decided: an append-only, hash-chained record that can be verified and replayed."""
