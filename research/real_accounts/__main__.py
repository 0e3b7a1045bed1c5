"""Command line: ``python -m research.real_accounts hyperliquid|aave|behaviour|study``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from market.core.errors import MargincastError
from pipelines.config.config import load_config
from pipelines.config.sections import AccountsConfig
from pipelines.reports.report import write_json
from research.real_accounts import aave, hyperliquid
from research.real_accounts.behaviour import behaviour
from research.real_accounts.study import study
from research.real_accounts.tables import behaviour_tables, rebuilt_lines, study_tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild recorded accounts, or study them. Exits 1 with one line where something is wrong."""
    parser = ArgumentParser(prog="python -m research.real_accounts", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("hyperliquid", "aave"):
        verb = verbs.add_parser(name, help="write account files")
        verb.add_argument("--data", type=Path, required=True, help="folder of the recorded data")
        verb.add_argument("--out", type=Path, required=True, help="folder of the account files")
        verb.add_argument("--json", type=Path, help="write what was found here")
    verbs.choices["hyperliquid"].add_argument(
        "--as-recorded", action="store_true", help="leave cash as the records have it"
    )
    verbs.choices["aave"].add_argument(
        "--episodes", type=int, default=1000, help="most implied borrowers of a table"
    )
    acts = verbs.add_parser("behaviour", help="what owners do after losses")
    acts.add_argument("--data", type=Path, required=True, help="folder of the recorded data")
    look = verbs.add_parser("study", help="where real liquidations stand in the ranking")
    look.add_argument("--bundle", type=Path, required=True, help="bundle folder or pointer file")
    look.add_argument("--accounts", type=Path, help="account files in place of the configured")
    look.add_argument("--count", type=int, default=300, help="sampled accounts to compare with")
    for verb in (acts, look):
        verb.add_argument("--config", type=Path, required=True, help="configuration")
        verb.add_argument("--json", type=Path, help="write the result here")
        verb.add_argument("--markdown", type=Path, help="write the tables here")
    chosen = parser.parse_args(arguments)
    try:
        report, text = _run(chosen)
    except MargincastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(report, chosen.json)
    if getattr(chosen, "markdown", None):
        chosen.markdown.write_text(text, encoding="utf-8")
    print(text)
    return 0


def _run(chosen: Namespace) -> tuple[dict[str, Any], str]:
    if chosen.verb == "hyperliquid":
        folder = chosen.data / hyperliquid.FOLDER
        rebuilt = hyperliquid.rebuild(folder, chosen.out, anchored=not chosen.as_recorded)
        return rebuilt.report, rebuilt_lines(rebuilt.report)
    if chosen.verb == "aave":
        report: dict[str, Any] = {}
        report["health_factor"] = aave.recorded_borrowers(
            chosen.data, chosen.out / "health-factor"
        ).report
        for name, found in (
            ("liquidations", aave.v2_episodes(chosen.data)),
            ("btc-collateral", aave.btc_episodes(chosen.data)),
        ):
            episodes, counts = found
            chosen_episodes = aave.choose(episodes, chosen.episodes)
            aave.implied_borrowers(chosen_episodes, chosen.out / name)
            report[name] = counts
        return report, rebuilt_lines(report)
    config = load_config(chosen.config)
    if chosen.verb == "behaviour":
        report = behaviour(config, chosen.data)
        return report, behaviour_tables(report)
    if chosen.accounts:
        files = AccountsConfig(source="files", path=chosen.accounts.resolve())
        config = config.model_copy(update={"accounts": files})
    report = study(config, chosen.bundle, chosen.count)
    return report, study_tables(report)


if __name__ == "__main__":
    sys.exit(main())
