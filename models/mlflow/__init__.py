"""MLflow: tracking, registry, logged runs."""
