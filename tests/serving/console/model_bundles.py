"""Bundles with the metrics and optional files that the page of the model reads, and reviews."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger.records import Entry
from ledger.store import Ledger
from models.bundle.bundle import Bundle, load_bundle, write_bundle
from models.drift.reference_file import BINS, REFERENCE_FILE
from models.review import MODEL_REVIEW, HorizonReview, Reliability, Review, SpanSkill

METRICS = {
    "margincast": {
        "log_loss": 0.1,
        "auc": 0.91,
        "average_precision": 0.42,
        "brier_skill": 0.33,
        "ece": 0.0012,
        "calibration_slope": 1.05,
        "calibration_intercept": -0.07,
        "top_decile_ratio": 1.02,
    },
    "first_passage_isotonic": {
        "log_loss": 0.125,
        "auc": 0.88,
        "average_precision": 0.35,
        "brier_skill": 0.21,
    },
    "lightgbm_plain_forecast": {
        "log_loss": 0.09,
        "auc": 0.9,
        "average_precision": 0.4,
        "brier_skill": 0.3,
    },
    "volatility_oracle": {
        "log_loss": 0.05,
        "auc": 0.97,
        "average_precision": 0.61,
        "brier_skill": 0.5,
    },
}
"""Of every horizon; the best baseline is the isotonic first passage, and the skill 20%."""


def review(bundle: Bundle) -> Review:
    """A review with other figures in each horizon."""
    return Review.of(
        bundle.sha256,
        ("2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"),
        1_000,
        {hours: _horizon(hours) for hours in bundle.schema.horizons},
        {"margincast": [(0.02, 0.004), (0.05, 0.0007)], "flat": [(0.02, 0.006), (0.05, 0.0011)]},
        {},
    )


def _horizon(hours: int) -> HorizonReview:
    skill = SpanSkill(500, 7, 1.1, 0.03 + hours / 1_000, (0.01, 0.06))
    return HorizonReview(
        base_rate=0.014,
        positives=14,
        best_baseline="first_passage_isotonic",
        log_loss_skill=0.04,
        log_loss_skill_ci95=(0.01, 0.07),
        oracle_gap_closed=0.3,
        reliability=Reliability(
            [1e-4, 0.02, 0.2], [0.0, 0.018, 0.23], [0.0, 0.01, 0.2], [0.002, 0.03, 0.27], [334] * 3
        ),
        months={"2025-02": skill, "2025-03": skill},
        blocks={"2025-01-01T00:00:00Z": skill},
        contributions={"margin_ratio": 0.8, "prior": 2.5},
    )


def reference(bundle: Bundle, features: tuple[str, ...]) -> bytes:
    """A reference of some features and the scores, with all rows in the two middle bins."""
    columns = [*features, *(f"score_{hours}h" for hours in bundle.schema.horizons)]
    inner = [[-8.0 + bin_ for bin_ in range(BINS - 1)] for _ in columns]
    counts = [[0] * (BINS + 1) for _ in columns]
    for row in counts:
        row[9] = row[10] = 500
    return json.dumps(
        {
            "format": 1,
            "days": 7,
            "columns": columns,
            "horizons": list(bundle.schema.horizons),
            "edges": inner,
            "span": [1_735_689_600_000_000_000, 1_736_294_400_000_000_000],
            "rows": 4_321,
            "blocks": [2_870],
            "counts": [counts],
            "expected": [[1.0] * len(bundle.schema.horizons)],
            "outcome_blocks": [],
            "outcomes": [],
        }
    ).encode()


def with_files(root: Path, sha: str, extra: dict[str, bytes], **manifest: Any) -> str:
    """Another bundle of the same model with further files, and changes of its manifest."""
    bundle = load_bundle(root / sha)
    files = {name: bundle.read(name) for name in bundle.checksums} | extra
    if manifest:
        changed = json.loads(files["manifest.json"]) | manifest
        files["manifest.json"] = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
    return write_bundle(root, files)


def evaluated(root: Path, sha: str) -> str:
    """The bundle with a reference and metrics."""
    bundle = load_bundle(root / sha)
    return with_files(
        root,
        sha,
        {REFERENCE_FILE: reference(bundle, bundle.schema.features[:3])},
        metrics={str(hours): METRICS for hours in bundle.schema.horizons},
    )


def record_review(ledger: Ledger, of: Bundle, /, **changes: Any) -> None:
    """Record the review of a bundle as a retraining does, with other values of some keys."""
    ledger.append([Entry(MODEL_REVIEW, review(of).payload() | changes)])
