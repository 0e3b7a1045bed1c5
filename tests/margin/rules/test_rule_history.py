"""Dated versions: the one in force, to the nanosecond, and histories that cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from margin.rules.history import RuleHistory, load_history
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.clock import parse_time
from market.core.errors import RuleSetError

DAYS = ("2024-01-01T00:00:00Z", "2024-02-01T12:30:00Z", "2024-03-01T00:00:00Z")
TOML = """
name = "venue"
version = "{label}"
engine = "tier"
source = "made up"
effective_from = "{begin}"
effective_to = "{end}"
[[tier.brackets]]
maintenance_rate = 0.02
initial_rate = 0.04
"""


def version(begin: str = "", end: str = "", label: str = "", name: str = "venue") -> RuleSet:
    content = load_ruleset("linear-tiers").content() | {
        "name": name,
        "version": label or f"{begin} to {end}",
        "effective_from": begin,
        "effective_to": end,
    }
    return ruleset_from_content(content)


FIRST, SECOND, THIRD = (
    version(begin, end) for begin, end in zip(DAYS, (*DAYS[1:], ""), strict=True)
)


def test_a_version_holds_from_its_first_nanosecond_to_the_one_before_its_end() -> None:
    history = RuleHistory.of([THIRD, FIRST, SECOND])
    assert history.versions == (FIRST, SECOND, THIRD)
    change = parse_time(DAYS[1])
    assert history.at(parse_time(DAYS[0])) is FIRST
    assert history.at(change - 1) is FIRST
    assert history.at(change) is SECOND
    assert history.at(parse_time("2030-01-01")) is THIRD
    assert history.changes() == (change, parse_time(DAYS[2]))


@given(st.permutations([FIRST, SECOND, THIRD]), st.integers(0, 100))
def test_order_of_the_files_does_not_matter(order: list[RuleSet], day: int) -> None:
    as_of = parse_time(DAYS[0]) + day * 86_400 * 10**9
    assert RuleHistory.of(order).at(as_of) is RuleHistory.of([FIRST, SECOND, THIRD]).at(as_of)


def test_before_the_first_and_after_the_last_nothing_is_in_force() -> None:
    history = RuleHistory.of([FIRST, SECOND])
    for moment in ("2023-12-31T23:59:59Z", DAYS[2]):
        with pytest.raises(RuleSetError, match=f"no version of rule set 'venue'.*{moment}"):
            history.at(parse_time(moment))
    open_at_both = RuleHistory.of([version()])
    assert open_at_both.at(0) is open_at_both.at(parse_time(DAYS[0]))
    before = RuleHistory.of([version("", DAYS[0]), FIRST, SECOND])
    assert before.at(0).effective_to == DAYS[0]


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([], "no version"),
        ([FIRST, THIRD], "leave a gap: the first holds to 2024-02-01T12:30:00Z"),
        ([FIRST, SECOND, version(DAYS[1], DAYS[2], label="again")], "overlap"),
        ([version("", "", label="always"), SECOND], "overlap: the first holds to any time"),
        ([FIRST, version("", DAYS[2])], "overlap"),
        ([FIRST, version(DAYS[1], "", label=FIRST.version)], "more than once"),
        ([FIRST, version(DAYS[1], "", name="other")], "different rule sets are mixed: other"),
    ],
)
def test_versions_that_do_not_follow_each_other_are_refused(
    versions: list[RuleSet], said: str
) -> None:
    with pytest.raises(RuleSetError, match=said):
        RuleHistory.of(versions)


def test_preset_file_and_folder_are_all_histories(tmp_path: Path) -> None:
    preset = load_history("linear-tiers")
    assert preset.versions == (load_ruleset("linear-tiers"),)
    assert preset.at(0) == load_ruleset("linear-tiers")
    for label, begin, end in (("b", DAYS[1], ""), ("a", DAYS[0], DAYS[1])):
        text = TOML.format(label=label, begin=begin, end=end)
        (tmp_path / f"{label}.toml").write_text(text)
    for folder in (tmp_path, str(tmp_path)):
        history = load_history(folder)
        assert [rules.version for rules in history.versions] == ["a", "b"]
    assert load_history(tmp_path / "b.toml").at(parse_time(DAYS[1])).version == "b"


def test_a_rule_set_loaded_by_name_or_file_is_used_at_any_time(tmp_path: Path) -> None:
    text = TOML.format(label="b", begin=DAYS[1], end=DAYS[2])
    (tmp_path / "b.toml").write_text(text)
    for time in DAYS:
        assert load_history(tmp_path / "b.toml").at(parse_time(time)).version == "b"
    with pytest.raises(RuleSetError, match="no version"):
        load_history(tmp_path).at(parse_time(DAYS[0]))
    two = [load_ruleset("linear-tiers"), load_ruleset("emir-ccp")]
    with pytest.raises(RuleSetError, match="give one"):
        RuleHistory(tuple(two), fixed=True)


def test_folder_errors_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(RuleSetError, match=r"has no \.toml file.*rulesets import"):
        load_history(tmp_path)
    (tmp_path / "a.toml").write_text(TOML.format(label="a", begin=DAYS[0], end=DAYS[1]))
    (tmp_path / "b.toml").write_text(TOML.format(label="b", begin=DAYS[2], end=""))
    with pytest.raises(RuleSetError, match=f"rule set folder {tmp_path}: .*gap"):
        load_history(tmp_path)
    with pytest.raises(RuleSetError, match="not known"):
        load_history("no-such-rules")
