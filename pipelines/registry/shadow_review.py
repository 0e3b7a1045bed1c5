"""Champion against challenger on recorded decisions, once their labels have matured.

The champion's probabilities are those of the recorded decisions, the challenger's those that the
endpoint recorded in shadow under the same ids (`monitoring.shadow`): neither is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ledger.store import Ledger
from market.accounts.book import Account
from market.core.clock import format_time
from market.core.errors import DataError, ModelError
from market.sources.http import AccountMessage, account_update
from models.bundle.pointer import CHALLENGER, CHAMPION, read_pointer
from monitoring.shadow import SHADOW
from pipelines.config.config import Config
from pipelines.data.decision_dataset import dataset_of_books
from pipelines.data.loaders import read_label_rules, read_market
from training.evaluation.bootstrap import skill_interval, utc_day
from training.evaluation.evaluate import BOOTSTRAP_SEED
from training.evaluation.metrics import log_loss_rows, log_loss_skill
from training.labels.dataset import Dataset


@dataclass(frozen=True, slots=True)
class ShadowPair:
    """A decision of the champion and what the challenger gave for the same account.

    Attributes
    ----------
    account:
        As it was decided on.
    champion, challenger:
        Probability by horizon in hours.
    add_on:
        Of champion and challenger.
    """

    account: Account
    champion: dict[str, float]
    challenger: dict[str, float]
    add_on: tuple[float, float]


def compare_in_shadow(config: Config) -> dict[str, Any]:
    """Log loss of both models on the same decisions, with the interval of the difference.

    A decision counts at the newest close known to it, the last one of an account and bar; its
    label is that of the recorded positions, held through the horizon.

    Returns
    -------
    ``champion`` and ``challenger`` (bundles), ``decisions`` (pairs on record), ``rows`` (pairs
    whose labels have matured), ``span``, ``add_on`` (totals over all pairs) and, by horizon,
    ``positives``, ``log_loss`` of both, ``skill`` (1 − challenger / champion) and ``skill_ci95``,
    by a paired bootstrap over days; None with fewer than two days.

    Raises
    ------
    ModelError
        There is no champion, no challenger, or no decision that both have scored.
    LedgerError
        The ledger cannot be read.
    """
    root = config.serving.bundles
    champion, challenger = read_pointer(root, CHAMPION), read_pointer(root, CHALLENGER)
    if champion is None or challenger is None or champion == challenger:
        raise ModelError(
            f"champion {champion or 'none'} and challenger {challenger or 'none'} cannot be "
            "compared; a retraining that keeps its bundle as challenger gives the second"
        )
    market = read_market(config)
    closes = market.history.bars.closes
    with Ledger(config.ledger.url) as ledger:
        pairs = _pairs(ledger, champion, challenger, closes)
    if not pairs:
        raise ModelError(
            f"the ledger has no decision of champion {champion} that challenger {challenger} "
            "scored too; the endpoint scores in shadow while it serves"
        )
    totals = np.sum([pair.add_on for pair in pairs.values()], axis=0)
    report: dict[str, Any] = {
        "champion": champion,
        "challenger": challenger,
        "decisions": len(pairs),
        "add_on": {
            "champion": float(totals[0]),
            "challenger": float(totals[1]),
            "change": float(totals[1] / totals[0] - 1.0) if totals[0] > 0.0 else None,
        },
    }
    try:
        data = dataset_of_books(
            config,
            market,
            read_label_rules(config, market),
            {key: pair.account for key, pair in pairs.items()},
        )
    except DataError as error:
        return report | {"rows": 0, "reason": f"no label has matured: {error}", "horizons": {}}
    return report | _figures(data, pairs, closes)


def _pairs(
    ledger: Ledger, champion: str, challenger: str, closes: npt.NDArray[np.int64]
) -> dict[tuple[str, int], ShadowPair]:
    """The last pair of each account and row of the bars."""
    scores: dict[str, tuple[dict[str, float], float]] = {}
    first: int | None = None
    for record in ledger.records(SHADOW):
        if record.payload["challenger"] != challenger:
            continue
        hours = [str(horizon) for horizon in record.payload["horizons"]]
        first = record.as_of if first is None else min(first, record.as_of or first)
        for decision_id, probability, add_on in record.payload["scores"]:
            if probability is not None:
                scores[decision_id] = dict(zip(hours, probability, strict=True)), add_on
    pairs: dict[tuple[str, int], ShadowPair] = {}
    for record in ledger.records("decision", since_as_of=first) if scores else ():
        decision, time = record.payload["decision"], record.as_of or 0
        row = int(np.searchsorted(closes, time, side="right")) - 1
        score = scores.get(record.id)
        if score is None or decision["model"] != champion or not decision["probability"] or row < 0:
            continue
        message = msgspec.convert(record.payload["account"], AccountMessage)
        account = account_update(message, time).account
        pairs[account.account_id, row] = ShadowPair(
            account, decision["probability"], score[0], (decision["add_on"], score[1])
        )
    return pairs


def _figures(
    data: Dataset, pairs: Mapping[tuple[str, int], ShadowPair], closes: npt.NDArray[np.int64]
) -> dict[str, Any]:
    rows = np.searchsorted(closes, data.time).tolist()
    matched = [
        pairs[data.account_ids[account], row]
        for account, row in zip(data.account.tolist(), rows, strict=True)
    ]
    days = utc_day(data.time)
    horizons: dict[str, Any] = {}
    for h, hours in enumerate(map(str, data.horizons)):
        if not all(hours in p.champion and hours in p.challenger for p in matched):
            continue
        y = data.labels[:, h].astype(np.float64)
        before = log_loss_rows(y, [pair.champion[hours] for pair in matched])
        after = log_loss_rows(y, [pair.challenger[hours] for pair in matched])
        means = float(before.mean()), float(after.mean())
        horizons[hours] = {
            "positives": int(y.sum()),
            "log_loss": {"champion": means[0], "challenger": means[1]},
            "skill": log_loss_skill(means[1], means[0]),
            "skill_ci95": skill_interval(after, before, days, seed=BOOTSTRAP_SEED),
        }
    return {
        "rows": len(data),
        "span": [format_time(int(data.time[0])), format_time(int(data.time[-1]))],
        "dropped": data.dropped,
        "horizons": horizons,
    }
