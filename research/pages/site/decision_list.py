"""The list of decision records, from their first lines."""

from __future__ import annotations

from pathlib import Path

_RECORDS = Path(__file__).resolve().parents[3] / "docs" / "adr"


def decision_list() -> str:
    """Markdown: one line a record, the newest first."""
    lines = []
    for path in sorted(_RECORDS.glob("*.md"), reverse=True):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        number, _, title = first.removeprefix("# ").partition(" ")
        lines.append(f"* {number} [{title.strip()}](adr/{path.name})")
    return "\n".join(lines)
