"""What the benchmarks compute on, and the peers they are compared with."""
