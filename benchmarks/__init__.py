"""How fast it is: benches that write `benchmarks/results/<name>.json`, run by `make bench`."""
