"""Data sets of the jobs: loaders, accounts, provenance."""
