"""The review of a training as one HTML page: no script, no outside reference, fit for printing."""

from __future__ import annotations

from collections.abc import Mapping

from market.core.clock import format_time
from training.evaluation.comparison import Comparison
from training.reports.backtest_tables import backtest_tables
from training.reports.charts import review_charts
from training.reports.html_page import data_uri, render_page
from training.reports.model_card import INTENDED_USE, limits, reliance
from training.reports.review_tables import TABLES, review_tables
from training.reports.run_record import RunRecord

TEMPLATE = "review.html"
MODEL = "margincast"


def review_page(
    subject: RunRecord,
    comparison: Comparison | None = None,
    charts: Mapping[str, str] | None = None,
) -> str:
    """The page of one training, with the champion beside it where there is another.

    All text that comes from configuration or data is escaped.

    Parameters
    ----------
    subject:
        The training under review.
    comparison:
        The champion against it, or None.
    charts:
        Its charts where they are drawn already, as `review_charts` gives them; drawing them is
        most of the time that a page takes.

    Returns
    -------
    str
        HTML; the same input gives the same text.

    References
    ----------
    Jinja documentation, "HTML escaping"; W3C, Web Content Accessibility Guidelines 2.2.
    """
    backtest = subject.completed_backtest
    if charts is None:
        charts = review_charts(subject.evaluation, subject.review, backtest)
    return render_page(
        TEMPLATE,
        it=subject,
        comparison=comparison,
        charts={name: data_uri(svg) for name, svg in charts.items()},
        tables=dict.fromkeys(TABLES, ())
        | review_tables(subject.evaluation, subject.gates, subject.review)
        | backtest_tables(backtest),
        hours=list(subject.evaluation["horizons"]),
        with_trees=[h for h in subject.evaluation["horizons"] if f"contributions_{h}h" in charts],
        walk=(subject.review or {}).get("walk_forward") or {},
        backtest=backtest,
        not_backtested=(subject.backtest or {}).get("not_evaluated"),
        not_evaluated=[
            fold for fold in (subject.review or {}).get("folds") or [] if fold.get("not_evaluated")
        ],
        trained=[format_time(t) for t in subject.manifest["training"]["span_ns"]],
        intended_use=INTENDED_USE,
        limits=limits(subject.evaluation["data"]),
        reliance=reliance(subject.evaluation["data"], subject.verdict),
        provenance=(subject.review or {}).get("provenance") or {},
        model=MODEL,
    )
