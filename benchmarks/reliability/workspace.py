"""A folder from which ``margincast serve`` starts: configuration and several small bundles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.endpoint import small_bundle
from margin.rules.ruleset import load_ruleset
from models.bundle.bundle import write_bundle
from models.bundle.pointer import promote

BUNDLES = 2
"""Sound bundles of a workspace; they differ in their calibration, so their answers differ."""

_CONFIG = """
[simulate]
days = 12
symbols = 3
[rules]
ruleset = "linear-tiers"
[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"
[ledger]
url = "sqlite:///var/ledger.db"
"""


@dataclass(frozen=True)
class Workspace:
    """A configuration and what it names.

    Attributes
    ----------
    folder:
        Holds ``margincast.toml``.
    bundles:
        SHA-256 of each bundle; the first is the champion at first.
    """

    folder: Path
    bundles: tuple[str, ...]

    @property
    def root(self) -> Path:
        """Folder of the bundles and of their pointer files."""
        return self.folder / "var" / "bundles"

    @property
    def database(self) -> Path:
        """The SQLite ledger."""
        return self.folder / "var" / "ledger.db"

    @property
    def sqlite(self) -> str:
        """Its URL."""
        return f"sqlite:///{self.database}"


def make_workspace(folder: Path) -> Workspace:
    """Write the configuration and `BUNDLES` bundles without trees, and promote the first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "margincast.toml").write_text(_CONFIG, encoding="utf-8")
    root = folder / "var" / "bundles"
    root.mkdir(parents=True)
    ruleset = load_ruleset("linear-tiers")
    written = tuple(
        write_bundle(root, small_bundle(ruleset, intercept=-1.0 - 0.5 * number))
        for number in range(BUNDLES)
    )
    promote(root, written[0])
    return Workspace(folder, written)
