"""The models of recorded decisions, loaded to make the decisions again."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from decisions.errors import NotReplayableError
from market.core.errors import ModelError
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.champion import ChampionWatch

MOST_MODELS = 2
"""Models besides the champion that stay loaded; the least recently used one is unloaded first."""

_LOG = logging.getLogger("margincast.serving")


class RecordedModels:
    """Models by the SHA-256 of their bundles. Safe to use from several threads.

    Parameters
    ----------
    bundles:
        Folder of the bundles.
    champion:
        The champion, which is not loaded again.
    """

    def __init__(self, bundles: Path, champion: ChampionWatch) -> None:
        self._bundles, self._champion = bundles, champion
        self._models: dict[str, Forecaster] = {}
        self._lock = threading.Lock()

    def load(self, sha256: str) -> Forecaster:
        """The model of a bundle, audited when it is loaded.

        Raises
        ------
        NotReplayableError
            The bundle is not in the folder, or failed its audit.
        """
        champion = self._champion.current().model
        if champion is not None and champion.bundle.sha256 == sha256:
            return champion
        with self._lock:
            model = self._models.pop(sha256, None)
            if model is None:
                model = self._audited(sha256)
            self._models[sha256] = model
            while len(self._models) > MOST_MODELS:
                del self._models[next(iter(self._models))]
        return model

    def _audited(self, sha256: str) -> Forecaster:
        folder = self._bundles / sha256
        try:
            return Forecaster(load_bundle(folder))
        except (ModelError, OSError) as error:
            _LOG.warning("bundle %s of a recorded decision was not loaded: %s", sha256, error)
            cause = "failed its audit" if folder.exists() else "is not there any more"
            raise NotReplayableError(
                f"the decision was made with bundle {sha256}, which {cause}; put the bundle back "
                "into the folder of the bundles and ask again"
            ) from error
