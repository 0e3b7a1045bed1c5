"""Adoption of rule versions: those that move requirements too far need a person's decision.

The registry chain of the ledger keeps which rule versions were adopted, with their content. The
first training adopts those that are configured. A version that is new to the configuration is
compared with the one before it on the reference book, and adopted by itself if the total
requirement moves by no more than the limit of the earlier version, ``[promotion]
max_requirement_change``; else the endpoint does not start until ``margincast promote --rules``.
"""

from __future__ import annotations

from typing import Any

from ledger.records import Entry, Record
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.errors import DataError, RuleSetError
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.forecaster import Forecaster
from pipelines.config.config import Config
from pipelines.data.loaders import read_market, read_rule_history
from pipelines.data.provenance import user_name
from pipelines.pro_forma.comparison import (
    SAMPLED_ACCOUNTS,
    Regime,
    RegimeComparison,
    compare_regimes,
)

ADOPTION = "rule_adoption"
"""Kind of the records."""


def adopt_first_rules(config: Config, ledger: Ledger) -> None:
    """Record the configured versions as adopted if none are on record yet."""
    if ledger.last_record(ADOPTION) is None:
        _record(ledger, read_rule_history(config), [], None)


def check_rules(config: Config) -> None:
    """Adopt configured versions that move requirements within the limit, refuse the others.

    Before a first adoption there is nothing to compare with.

    Raises
    ------
    RuleSetError
        A version moves the requirement of the reference book by more than the limit, or cannot be
        compared.
    """
    rules = read_rule_history(config)
    with Ledger(config.ledger.url, chain="registry") as ledger:
        last = ledger.last_record(ADOPTION)
        if last is None or not _new_versions(rules, last):
            return
        changes = _changes(config, ledger, rules, last)
        beyond = [change for change in changes if not change["within_limit"]]
        if beyond:
            named = "; ".join(
                f"version {one['version']!r} moves the total requirement of the reference book by "
                + ("an unknown share" if one["change"] is None else f"{one['change']:+.1%}")
                + f" against version {one['before']!r}, limit {one['limit']:.1%}"
                + _calls(one)
                for one in beyond
            )
            raise RuleSetError(
                f"rule set {rules.versions[0].name!r}: {named}; margincast report pro-forma shows "
                "what changes, margincast promote --rules REASON adopts it, or configure the rules "
                "of before"
            )
        _record(ledger, rules, changes, None)


def promote_rules(config: Config, reason: str) -> dict[str, Any]:
    """Adopt the configured rule versions whatever they change; the reason is recorded.

    Raises
    ------
    RuleSetError
        No reason is given, or the rules cannot be read.
    """
    if not reason.strip():
        raise RuleSetError("--rules needs the reason for which the rule versions are adopted")
    rules = read_rule_history(config)
    with Ledger(config.ledger.url, chain="registry") as ledger:
        last = ledger.last_record(ADOPTION)
        changes = [] if last is None else _changes(config, ledger, rules, last)
        _record(ledger, rules, changes, reason)
    return {
        "rules": [version.version for version in rules.versions],
        "changes": changes,
        "reason": reason,
    }


def _new_versions(rules: RuleHistory, last: Record) -> list[RuleSet]:
    adopted = set(last.payload["contents"])
    return [version for version in rules.versions if version.sha256 not in adopted]


def _changes(
    config: Config, ledger: Ledger, rules: RuleHistory, last: Record
) -> list[dict[str, Any]]:
    """The change of the reference book's requirement under each new version."""
    earlier = {
        after.sha256: before
        for before, after in zip(rules.versions, rules.versions[1:], strict=False)
    }
    in_force = ruleset_from_content(ledger.get(last.payload["contents"][-1]))
    new = _new_versions(rules, last)
    return [_change(config, earlier.get(one.sha256, in_force), one) for one in new]


def _change(config: Config, before: RuleSet, after: RuleSet) -> dict[str, Any]:
    limit = before.promotion_or_default.max_requirement_change
    compared = _pro_forma(config, before, after)
    change = None if compared is None else compared.change
    return {
        "before": before.version,
        "version": after.version,
        "change": change,
        "limit": limit,
        "within_limit": change is not None and abs(change) <= limit,
        "pro_forma": None if compared is None else _figures(compared),
    }


def _pro_forma(config: Config, before: RuleSet, after: RuleSet) -> RegimeComparison | None:
    """The reference book under both rules; None where no account has both. The champion decides
    under both, if there is one."""
    # Labels and the simulator come with it, which the endpoint starts without.
    from pipelines.data.accounts import sample_book

    market = read_market(config)
    accounts, snapshot = sample_book(config, market, SAMPLED_ACCOUNTS)
    root = config.serving.bundles
    champion = read_pointer(root, CHAMPION)
    model = None if champion is None else Forecaster(load_bundle(root / champion))
    try:
        return compare_regimes(accounts, snapshot, Regime(before, model), Regime(after, model))
    except DataError:
        return None


def _figures(compared: RegimeComparison) -> dict[str, Any]:
    """What a record keeps of a comparison: no account by its id."""
    figures = compared.to_dict()
    return {name: figures[name] for name in ("accounts", "changed", "requirement", "calls")}


def _calls(change: dict[str, Any]) -> str:
    figures = change["pro_forma"]
    if figures is None:
        return ""
    calls = figures["calls"]
    return (
        f" ({figures['changed']:,} of {figures['accounts']:,} accounts change, {calls['new']:,} "
        f"are called at once and {calls['ended']:,} no longer)"
    )


def _record(
    ledger: Ledger, rules: RuleHistory, changes: list[dict[str, Any]], reason: str | None
) -> None:
    contents = [ledger.put("ruleset", version.content()) for version in rules.versions]
    payload = {
        "rules": rules.versions[0].name,
        "versions": [version.version for version in rules.versions],
        "contents": contents,
        "changes": changes,
        "reason": reason,
        "by": user_name(),
    }
    ledger.append([Entry(kind=ADOPTION, payload=payload)])
