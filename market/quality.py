"""What was found wrong in a load of bars, and what was done about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class FileQuality:
    """Counts for one file of bars.

    Attributes
    ----------
    folder, symbol, kind:
        Where the bars came from.
    interval:
        Bar interval found in the file.
    rows:
        Rows in the file.
    unsorted:
        Rows whose time stamp lies before that of the row above; the file is sorted.
    duplicates:
        Rows repeated with equal values; one is kept.
    conflicts:
        Rows that repeat a time stamp with other values; the first row of the file is kept.
    misaligned:
        Rows whose time stamp is not a multiple of the interval; dropped.
    impossible:
        Rows with a missing price, a price or volume that no market has (0 and less included), or a
        high under or a low over another price; dropped.
    dead:
        Rows after the last trade of a contract that stopped trading for a day or more; cut.
    incomplete:
        Aggregated bars that lack some of their finer bars. Kept while the last one is there,
        because it carries the close; dropped otherwise.
    gaps:
        Runs of missing bars between the first and the last one. A gap stays a gap: the bar after
        it carries the whole return.
    longest_gap_hours:
        Length of the longest of them.
    used:
        Bars that entered the panel (an earlier folder may already have had the rest).
    """

    folder: str
    symbol: str
    kind: str
    interval: str
    rows: int
    unsorted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    misaligned: int = 0
    impossible: int = 0
    dead: int = 0
    incomplete: int = 0
    gaps: int = 0
    longest_gap_hours: float = 0.0
    used: int = 0


@dataclass(frozen=True, slots=True)
class ContextQuality:
    """Counts for one file of funding, open interest or implied volatility.

    Attributes
    ----------
    file, symbol:
        Where the facts came from and whom they concern.
    rows:
        Rows in the file.
    repeated:
        Rows with the time stamp of another one; the last of them counts.
    impossible:
        Rows with a missing or impossible value; not used.
    used:
        Rows that became known within the panel.
    """

    file: str
    symbol: str
    rows: int
    repeated: int = 0
    impossible: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Quality of a whole load.

    Attributes
    ----------
    files:
        One entry for each file read.
    marks:
        For each symbol, how many bars are marked by kind ``mark``, ``perp`` and ``spot``.
    context:
        One entry for each file of funding, open interest or implied volatility.
    """

    files: tuple[FileQuality, ...] = ()
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    context: tuple[ContextQuality, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain form for JSON."""
        return {
            "files": [asdict(entry) for entry in self.files],
            "marks": self.marks,
            "context": [asdict(entry) for entry in self.context],
        }
