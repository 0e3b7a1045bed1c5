"""The exceptions of Margincast, one tree under one root.

::

    MargincastError
    ├── ConfigError          a configuration key is unknown or impossible
    ├── DataError            market or account data break the data contract
    │   └── InstrumentError  an instrument or asset is unknown or has no price
    │       └── BatchError   several accounts of a batch are refused, each for its own instrument
    ├── RuleSetError         a rule set is missing, malformed or inconsistent
    ├── CaseError            a margin case cannot be computed
    ├── ModelError           a model cannot be trained, exported or scored
    │   ├── ExportError      a booster uses something the exporter refuses
    │   └── BundleError      an artefact failed its audit and was not loaded
    ├── LedgerError          a decision cannot be recorded, found or replayed
    │   ├── AlteredError     what the ledger holds is not what was recorded
    │   └── UnrecordableError  an entry cannot be recorded for what it holds
    ├── MissingExtraError    an optional part of the installation is not there
    ├── WorkerError          a process of the endpoint cannot start or dies again and again
    └── BusyError            another process holds an exclusive job

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping


class MargincastError(Exception):
    """Root of every error that Margincast raises on purpose."""


class ConfigError(MargincastError):
    """A configuration key is unknown or its value is impossible."""


class DataError(MargincastError):
    """Market or account data break the data contract."""


class InstrumentError(DataError):
    """An instrument or asset is unknown, malformed or has no price.

    Parameters
    ----------
    message:
        What was given, what was expected, what to do.
    instrument:
        The identifier at fault, kept so that an answer can name it.
    """

    def __init__(self, message: str, instrument: str) -> None:
        super().__init__(message)
        self.instrument = instrument


class BatchError(InstrumentError):
    """Several accounts of a batch are refused; the message is that of the first.

    Parameters
    ----------
    by_account:
        What is wrong with each, by its index in the batch; at least one.
    """

    def __init__(self, by_account: Mapping[int, InstrumentError]) -> None:
        first = by_account[min(by_account)]
        super().__init__(str(first), first.instrument)
        self.by_account = by_account


class RuleSetError(MargincastError):
    """A rule set is missing, malformed or inconsistent."""


class CaseError(MargincastError):
    """A margin case cannot be computed."""


class ModelError(MargincastError):
    """A model cannot be trained, exported or scored."""


class ExportError(ModelError):
    """A booster uses something that the ONNX exporter refuses."""


class BundleError(ModelError):
    """A model bundle failed its audit and was not loaded."""


class LedgerError(MargincastError):
    """A decision cannot be recorded, found or replayed."""


class AlteredError(LedgerError):
    """What the ledger holds is not what was recorded."""


class MissingExtraError(MargincastError):
    """An optional part of the installation is missing."""


class UnrecordableError(LedgerError):
    """An entry cannot be recorded because of its content; the ledger itself works."""


class UnknownOutcomeError(LedgerError):
    """The ledger failed at the end of a transaction, whose outcome is unknown."""


class BusyError(MargincastError):
    """Another process holds an exclusive job."""


class WorkerError(MargincastError):
    """A worker process of the endpoint cannot start, or ends repeatedly."""
