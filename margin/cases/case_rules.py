"""The rules of a margin case: a preset, or a preset with figures of the case's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from margin.engines.registry import ENGINES, engine_names, tables_of
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from market.core.errors import CaseError

_KEYS = frozenset({"engine", "name", "grid", "parameters"})


def case_rules(ruleset: object) -> RuleSet:
    """The rule set that a case names.

    Parameters
    ----------
    ruleset:
        Name of a preset, or ``{"engine", "name", "grid"?, "parameters"}``: the keys of
        ``parameters`` take the place of those in the engine's table of the preset (of a scenario
        engine that of the two it has), ``grid`` that of a scenario engine. A name that is no
        preset needs every figure.

    Raises
    ------
    CaseError
        A key is missing or unknown, or names neither preset nor engine.
    RuleSetError
        The figures make no valid rule set.
    """
    if isinstance(ruleset, str):
        return _preset(ruleset)
    if not isinstance(ruleset, Mapping):
        raise CaseError(f"ruleset is {ruleset!r}; expected a preset's name or an object")
    engine, name, parameters = (_required(ruleset, key) for key in ("engine", "name", "parameters"))
    if engine not in engine_names():
        raise CaseError(f"engine {engine!r} is not known; available: {', '.join(engine_names())}")
    if not isinstance(name, str) or not name:
        raise CaseError(f"ruleset has name {name!r}; expected a preset, or a name of your own")
    if not isinstance(parameters, Mapping):
        raise CaseError(f"ruleset parameters are {parameters!r}; expected an object")
    unknown = sorted(set(map(str, ruleset)) - _KEYS)
    if unknown:
        raise CaseError(
            f"ruleset has the unknown key {unknown[0]!r}; expected {', '.join(sorted(_KEYS))}"
        )
    table, content = _base(engine, name)
    content[table] |= parameters
    if "grid" in ruleset:
        if "grid" not in ENGINES[table].rules.__struct_fields__:
            raise CaseError(f"ruleset has a grid, and the table [{table}] takes none; leave it out")
        content[table]["grid"] = ruleset["grid"]
    return ruleset_from_content(content, origin=name)


def _base(engine: str, name: str) -> tuple[str, dict[str, Any]]:
    """Table of the engine, and the content that the figures of a case go into."""
    if name not in list_rulesets():
        table = tables_of(engine)[0]
        text = {"name": name, "version": "given", "engine": engine, "source": "given"}
        return table, {**text, table: {}}
    preset = _preset(name)
    if preset.engine != engine:
        raise CaseError(
            f"ruleset {name!r} is of engine {preset.engine!r}, the case says {engine!r}; give "
            "the preset's own engine, or a name that is no preset"
        )
    return preset.table, preset.content()


def _preset(name: str) -> RuleSet:
    if name not in list_rulesets():
        raise CaseError(
            f"ruleset {name!r} is no preset; choose one of {', '.join(list_rulesets())}, or give "
            'an object {"engine", "name", "parameters"}'
        )
    return load_ruleset(name)


def _required(ruleset: Mapping[str, Any], key: str) -> Any:
    if key not in ruleset:
        raise CaseError(
            f"missing required key ruleset.{key}; give engine, name and parameters ({{}} for "
            "the preset's own), or the preset's name alone"
        )
    return ruleset[key]
