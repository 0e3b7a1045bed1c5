"""What a retraining records of its review."""

from __future__ import annotations

from ledger.store import Ledger
from models.bundle.bundle import load_bundle
from models.review import MODEL_REVIEW, parse_review
from tests.pipelines.conftest import TrainedMarket


def test_the_record_has_the_figures_of_the_evaluation(trained: TrainedMarket) -> None:
    report = trained.retrained
    with Ledger(f"sqlite:///{trained.workspace.folder}/var/ledger.db") as ledger:
        record = ledger.last_record(MODEL_REVIEW)
    assert record is not None
    bundle = load_bundle(trained.workspace.bundles / report["bundle"])
    review = parse_review(record.payload, bundle)
    evaluation = report["evaluation"]
    assert [*review.span] == evaluation["span"]
    assert review.rows == evaluation["rows"]
    assert set(map(str, review.horizons)) == set(evaluation["horizons"])
    for hours, figures in evaluation["horizons"].items():
        kept = review.horizons[int(hours)]
        assert kept.reliability.observed == figures["reliability"]["observed"]
        assert kept.reliability.count == figures["reliability"]["count"]
        assert kept.best_baseline == figures["best_baseline"]
        assert kept.log_loss_skill == figures["log_loss_skill"]
        assert set(kept.months) == set(figures["months"])
        for month, group in figures["months"].items():
            assert kept.months[month].observed == group["observed"]
            assert kept.months[month].log_loss_skill == group["log_loss_skill"]
        assert any(value > 0.0 for value in kept.contributions.values())
