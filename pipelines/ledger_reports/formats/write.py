"""Write a report in the format that the ending of its file names."""

from __future__ import annotations

from pathlib import Path

from market.core.errors import ConfigError
from market.core.files import replace_file
from pipelines.cli.extras import require
from pipelines.ledger_reports.formats.document import Report
from pipelines.ledger_reports.formats.tabular import csv_files, parquet_files

FORMATS = (".html", ".csv", ".parquet", ".pdf")


def check_format(path: Path) -> None:
    """Refuse a file of another ending, and PDF where its extra is not installed.

    Raises
    ------
    ConfigError
        The ending is not of `FORMATS`.
    MissingExtraError
        PDF needs the extra ``pdf``.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"--out {str(path)!r} ends in none of {', '.join(FORMATS)}; give one")
    if path.suffix == ".pdf":
        require("pdf", "a report as PDF")


def write_report(report: Report, path: Path) -> list[Path]:
    """Write the files of a report, each as a whole; the same report gives the same bytes.

    Returns
    -------
    list of Path
        What was written: several files for CSV and Parquet, see `tabular`.

    Raises
    ------
    ConfigError, MissingExtraError
        As `check_format`.
    """
    check_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        files = list(csv_files(report, path))
    elif path.suffix == ".parquet":
        files = list(parquet_files(report, path))
    elif path.suffix == ".pdf":
        from pipelines.ledger_reports.formats.pdf import pdf_bytes

        files = [(path, pdf_bytes(report))]
    else:
        from pipelines.ledger_reports.formats.html import html_page

        files = [(path, html_page(report).encode())]
    for file, content in files:
        replace_file(file, content)
    return [file for file, _ in files]
