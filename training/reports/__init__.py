"""Reports of a training: charts, review page, model card."""
