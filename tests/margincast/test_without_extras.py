"""The base installation: what the API needs no extra for works, and the rest names the extra."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"joblib", "lightgbm", "matplotlib", "mlflow", "onnx",
                                      "polars", "scipy", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import margincast as mc

assert "pandas" not in sys.modules, "the import alone loads nothing"
book = mc.simulate(days=14, symbols=2, accounts=5, history=True)
now = mc.simulate(days=14, symbols=2, accounts=5)
market = mc.Market(book.bars)
assert len(mc.score(now.positions, now.collateral, market, model=None)) > 0
assert len(mc.features(market)) > 0
rows = mc.training_rows(book.positions, book.collateral, market, horizon_hours=1)
assert len(rows.X) == len(rows.y) > 0
assert mc.PurgedTimeSeriesSplit(2).get_n_splits() == 2
try:
    mc.MarginCallClassifier
except mc.MargincastError as error:
    print(error)
"""


def test_all_but_the_classifier_works_without_the_extras() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "margincast.MarginCallClassifier" in done.stdout
    assert "margincast[training]" in done.stdout
