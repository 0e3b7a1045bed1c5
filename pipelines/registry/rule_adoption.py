"""Adoption of rule versions: those that move requirements too far need a person's decision.

The registry chain of the ledger keeps which rule versions were adopted, with their content. The
first training adopts those that are configured. A version that is new to the configuration is
compared with the one before it on the reference book, and adopted by itself if the total
requirement moves by no more than the limit of the earlier version, ``[promotion]
max_requirement_change``; else the endpoint does not start until ``margincast promote --rules``.
"""

from __future__ import annotations

from typing import Any

from decisions.decision import decide
from decisions.messages import Decision
from ledger.records import Entry, Record
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.errors import RuleSetError
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.forecaster import Forecaster
from pipelines.config.config import Config
from pipelines.data.loaders import read_market, read_rule_history
from pipelines.data.provenance import user_name

ADOPTION = "rule_adoption"
"""Kind of the records."""

_ACCOUNTS = 2_000


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
                for one in beyond
            )
            raise RuleSetError(
                f"rule set {rules.versions[0].name!r}: {named}; margincast promote --rules REASON "
                "adopts it, or configure the rules of before"
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
    change = _requirement_change(config, before, after)
    return {
        "before": before.version,
        "version": after.version,
        "change": change,
        "limit": limit,
        "within_limit": change is not None and abs(change) <= limit,
    }


def _requirement_change(config: Config, before: RuleSet, after: RuleSet) -> float | None:
    """Total requirement of the reference book under the later rules over that under the earlier,
    minus 1; None where no account has both. The champion decides under both, if there is one."""
    # Labels and the simulator come with it, which the endpoint starts without.
    from pipelines.data.accounts import sample_book

    market = read_market(config)
    accounts, snapshot = sample_book(config, market, _ACCOUNTS)
    root = config.serving.bundles
    champion = read_pointer(root, CHAMPION)
    model = None if champion is None else Forecaster(load_bundle(root / champion))
    outcomes = [decide(accounts, snapshot, rules, model, {}) for rules in (before, after)]
    totals = [
        (old.total_requirement, new.total_requirement)
        for old, new in zip(*outcomes, strict=True)
        if isinstance(old, Decision) and isinstance(new, Decision)
    ]
    base = sum(old for old, _ in totals)
    return sum(new for _, new in totals) / base - 1.0 if base > 0.0 else None


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
