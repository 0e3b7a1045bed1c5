from .log_run import tracking as tracking
from .promotion import promote as promote, rollback as rollback
from .promotion_gates import (
    add_on_gates as add_on_gates,
    calibrated_and_better as calibrated_and_better,
    check_bounds as check_bounds,
    no_worse_than_champion as no_worse_than_champion,
    requirement_change as requirement_change,
    stress_and_segments as stress_and_segments,
)
from .rule_adoption import adopt_first_rules as adopt_first_rules, check_rules as check_rules
from .training_review import TrainingArtifacts as TrainingArtifacts, examine as examine

__all__ = [
    "TrainingArtifacts",
    "add_on_gates",
    "adopt_first_rules",
    "calibrated_and_better",
    "check_bounds",
    "check_rules",
    "examine",
    "no_worse_than_champion",
    "promote",
    "requirement_change",
    "rollback",
    "stress_and_segments",
    "tracking",
]
