"""What was found wrong in a load of bars, and what was done about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

FAULTS = (
    "unsorted",
    "duplicates",
    "conflicts",
    "misaligned",
    "impossible",
    "dead",
    "incomplete",
    "gaps",
    "stale",
    "late",
    "corrected",
    "suspect",
    "rejected",
    "limited",
)
"""The counts of `FileQuality`, in the order in which a load finds them."""


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
        Rows that repeat a time stamp, and the time they became known, with equal values; one is
        kept.
    conflicts:
        The same with other values; the first row of the file is kept.
    misaligned:
        Rows whose time stamp is not a multiple of the interval; dropped.
    impossible:
        Rows with a missing price, a price or volume that no market has (0 and less included), a
        high under or a low over another price, or known before they began; dropped.
    dead:
        Rows after the last trade of a contract that stopped trading for a day or more; cut.
    stale:
        Bars of the file's own interval that only repeat the last close without a trade (for marks:
        without a move); kept.
    longest_stale_hours:
        Length of the longest run of them.
    incomplete:
        Aggregated bars that lack some of their finer bars. Kept while the last one is there,
        because it carries the close; dropped otherwise.
    gaps:
        Runs of missing bars between the first and the last one. A gap stays a gap: the bar after
        it carries the whole return.
    longest_gap_hours:
        Length of the longest of them.
    late:
        Bars that were not known when they closed. Missing to the decision at that time; outcomes
        see them. See `market.bars.bar_versions`.
    corrected:
        Bars that were corrected after their close. The decision at that time sees the version
        known then, outcomes the newest one.
    used:
        Bars that entered the panel (an earlier folder may already have had the rest).
    suspect:
        Bars used that the outlier filter held as suspect, for features or for marks: missing
        there. See `market.bars.outlier_filter`.
    rejected:
        Bars used that lie beyond the hard band of the outlier filter: missing likewise. A price
        that stays there counts again after a gap of a day.
    limited:
        Bars used whose open or extremes the outlier filter limited.
    suspect_times:
        Ints of the first `MAX_TIMES` suspect bars, ISO 8601.
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
    stale: int = 0
    longest_stale_hours: float = 0.0
    incomplete: int = 0
    gaps: int = 0
    longest_gap_hours: float = 0.0
    late: int = 0
    corrected: int = 0
    used: int = 0
    suspect: int = 0
    rejected: int = 0
    limited: int = 0
    suspect_times: tuple[str, ...] = ()


MAX_TIMES = 50
"""So many times of suspect bars a report names; the count goes on."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two files of one symbol agree.

    Attributes
    ----------
    symbol:
        Whose bars.
    first, second:
        Folder and kind of each file.
    bars:
        Bars that both have, at the interval of the market.
    equal:
        Share of them with the same close.
    verdict:
        ``mix-up`` where kinds differ and most closes are equal: one of the two is labelled
        wrongly. ``differ`` where the kinds are the same and most closes are not. Else empty.
    """

    symbol: str
    first: tuple[str, str]
    second: tuple[str, str]
    bars: int
    equal: float
    verdict: str


@dataclass(frozen=True, slots=True)
class ExogenousQuality:
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
    held_hours:
        For each symbol, hours between its first and last mark through which an older one was held.
    agreements:
        One entry for each two files of a symbol that overlap by at least a day.
    exogenous:
        One entry for each file of funding, open interest or implied volatility.
    """

    files: tuple[FileQuality, ...] = ()
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    held_hours: dict[str, float] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    exogenous: tuple[ExogenousQuality, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain form for JSON."""
        return {
            "files": [asdict(entry) for entry in self.files],
            "marks": self.marks,
            "context": [asdict(entry) for entry in self.exogenous],
            "held_hours": self.held_hours,
            "agreements": [asdict(entry) for entry in self.agreements],
        }
