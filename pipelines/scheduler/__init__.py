"""The scheduler of retraining and drift checks."""
