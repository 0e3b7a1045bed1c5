"""HTTP: routes, authentication, problems, metrics."""
