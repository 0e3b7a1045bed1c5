"""Rule sets written as TOML are read back as they were."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w

from margin.rules.ruleset import list_rulesets, load_ruleset, ruleset_from_content


@pytest.mark.parametrize("name", list_rulesets())
def test_every_preset_can_be_written_and_keeps_its_identity(name: str) -> None:
    ruleset = load_ruleset(name)
    written = ruleset_from_content(tomllib.loads(tomli_w.dumps(ruleset.content())))
    assert written.sha256 == ruleset.sha256
