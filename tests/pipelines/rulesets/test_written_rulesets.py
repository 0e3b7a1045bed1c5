"""Rule sets written as TOML are read back as they were."""

from __future__ import annotations

import tomllib

import pytest

from margin.rules.ruleset import list_rulesets, load_ruleset, ruleset_from_content
from pipelines.rulesets.rulesets_import import ruleset_toml


@pytest.mark.parametrize("name", list_rulesets())
def test_every_preset_can_be_written_and_keeps_its_identity(name: str) -> None:
    ruleset = load_ruleset(name)
    written = ruleset_from_content(tomllib.loads(ruleset_toml(ruleset)))
    assert written.sha256 == ruleset.sha256
