"""Labels: margin breaches along account paths, and the data set."""
