"""Fuzzing of the endpoint: seeded request bodies for every route, and what must hold of responses.

``python -m benchmarks.fuzz --count 100000 --seed 7`` runs a campaign over all presets of rule
sets. Bodies are plausible ones with a few hostile values in them, so that they get past the
decoder; each response is checked by itself, against its neighbours in the request, and against the
ledger at the end.
"""
