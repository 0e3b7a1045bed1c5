"""A page without figures stands alone too, and its text is escaped."""

from __future__ import annotations

import re

from training.reports.job_pages.drift import drift_page

REPORT = {
    "bundle": "a" * 64,
    "verdict": "unavailable",
    "reason": "<script>no reference</script>",
    "data": {"prices": "simulated"},
}


def test_page_stands_alone_and_escapes_its_text() -> None:
    page = drift_page(REPORT, {"Generated": "2026-01-01T00:00:00Z"})
    assert "&lt;script&gt;no reference" in page
    assert "Prices are simulated" in page
    assert not re.search(r"<script|<link|@import|url\(|(src|href)=\"(?!#|data:)", page)
