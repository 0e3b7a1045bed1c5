"""MLflow failing after the pointer has moved does not make a training a failed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from market.core.errors import ModelError
from models.bundle.pointer import CHAMPION, read_pointer
from pipelines.config.config import load_config
from pipelines.jobs import retrain


def test_failed_alias_is_reported_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "margincast.toml").write_text("", "utf-8")
    config = load_config(tmp_path / "margincast.toml")
    asked: list[object] = []

    def locked(*_: object, **wanted: object) -> None:
        asked.append(wanted)
        raise ModelError("database is locked")

    monkeypatch.setattr(retrain, "set_aliases", locked)
    (reported,) = retrain.align_aliases(config, "promoted", "a" * 64, None)
    assert asked == [{"champion": None, "challenger": None, "previous": None}]
    assert "database is locked" in reported
    assert "margincast promote" in reported
    assert read_pointer(config.serving.bundles, CHAMPION) is None
