from .log_run import tracking as tracking
from .promotion import promote as promote, rollback as rollback
from .promotion_gates import (
    add_on_gates as add_on_gates,
    calibrated_and_better as calibrated_and_better,
    check_bounds as check_bounds,
    no_worse_than_champion as no_worse_than_champion,
    stress_and_segments as stress_and_segments,
)
from .training_review import TrainingArtifacts as TrainingArtifacts, examine as examine

__all__ = [
    "TrainingArtifacts",
    "add_on_gates",
    "calibrated_and_better",
    "check_bounds",
    "examine",
    "no_worse_than_champion",
    "promote",
    "rollback",
    "stress_and_segments",
    "tracking",
]
