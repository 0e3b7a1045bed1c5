"""The log: one line each, its fields, and what must not stand in it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from market.core.errors import LedgerError, MargincastError
from market.core.redaction import withhold, withholding
from serving.telemetry.exchange import CURRENT, Exchange
from serving.telemetry.logs.lines import MOST_BYTES
from serving.telemetry.logs.records import (
    LineFormatter,
    LogFormat,
    LogSettings,
    configure_logs,
    log_uncaught_errors,
    time_text,
)

TEXTS = st.text(max_size=3_000)


def record(message: str, *arguments: object, error: BaseException | None = None) -> Any:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("margincast.test", 30, __file__, 1, message, arguments, trace)


def lined(form: LogFormat, *parts: Any, **rest: Any) -> str:
    return LineFormatter(LogSettings(form, "info", 3)).format(record(*parts, **rest))


def raised(job: Callable[[], object]) -> BaseException:
    try:
        job()
    except Exception as error:  # noqa: BLE001  whatever it is
        return error
    raise AssertionError("nothing was raised")


@settings(max_examples=200)
@given(TEXTS, TEXTS)
def test_every_line_is_one_short_line_and_valid_json(message: str, said: str) -> None:
    error = raised(lambda: _fail(said))
    shown = lined("json", "%s", message, error=error)
    assert "\n" not in shown
    assert len(shown.encode()) < MOST_BYTES
    line = json.loads(shown)
    assert {"time", "level", "logger", "message", "pid", "worker", "error"} <= line.keys()
    assert (line["level"], line["logger"], line["worker"]) == ("warning", "margincast.test", 3)
    assert line["error"]["type"] == "LedgerError"
    assert line["error"]["at"].startswith("serving/telemetry/test_records.py:")
    text = lined("text", "%s", message, error=error)
    assert len(text.splitlines()) <= 1 or "\n" not in text


def _fail(said: str) -> None:
    raise LedgerError(said)


def test_an_unexpected_error_is_a_place_and_no_message_without_debug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MARGINCAST_DEBUG", raising=False)
    error = raised(lambda: dict[str, int]()["acc-secret"])
    for form in ("text", "json"):
        shown = lined(form, "failed: %s", error, error=error)
        assert "acc-secret" not in shown
        assert "KeyError" in shown
        assert "test_records.py" in shown
        assert "\n" not in shown
    monkeypatch.setenv("MARGINCAST_DEBUG", "1")
    assert "acc-secret" in lined("json", "failed: %s", error, error=error)
    assert "Traceback" in lined("text", "failed", error=error)


def test_an_error_of_ours_does_not_pass_on_the_words_of_its_cause() -> None:
    cause = KeyError("cash of 1234.5")
    error = MargincastError(f"the call failed unexpectedly: {cause!r}; see the log")
    error.__cause__ = cause
    line = json.loads(lined("json", "unexpected error", error=error))
    assert line["error"]["message"] == "the call failed unexpectedly: KeyError; see the log"
    assert "1234.5" not in json.dumps(line)


def test_the_stack_names_causes_and_no_folder_of_this_machine() -> None:
    def job() -> None:
        try:
            _fail("inner")
        except LedgerError as error:
            raise MargincastError("outer") from error

    line = json.loads(lined("json", "failed", error=raised(job)))
    stack = line["error"]["stack"]
    assert "from LedgerError: inner" in stack
    assert " _fail" in stack
    assert not any(part.startswith("/") for part in stack.split("; "))


def test_addresses_lose_their_credentials() -> None:
    shown = lined("json", "cannot reach %s", "postgresql://user:S3CRET@host/db")
    assert "S3CRET" not in shown
    assert "host/db" in shown


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128).filter(
    lambda name: len(name) >= 4
)


@settings(max_examples=300)
@given(st.lists(NAMES, min_size=1, max_size=5), st.data())
def test_no_account_id_in_work_is_in_a_line(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    said = data.draw(st.sampled_from([f"account {name!r}: no", f"of {name}", json.dumps(name)]))
    with withholding(lambda: names):
        shown = withhold(said)
        lines = [lined(form, "%s", said, error=raised(lambda: _fail(said))) for form in FORMS]
    assert name not in shown
    for line in lines:
        assert name not in line or name in lined("text", "") or name in STANDING


FORMS: tuple[LogFormat, ...] = ("text", "json")
STANDING = "time level warning logger margincast.test message worker error LedgerError"


def test_a_short_id_is_taken_out_where_it_stands_alone() -> None:
    with withholding(lambda: ["7", "ab"]):
        assert withhold("account 7 of 70: ab, abc") == "account *** of 70: ***, abc"
    assert withhold("account 7") == "account 7"


def test_lines_name_the_request_in_work() -> None:
    CURRENT.set(Exchange([(b"x-request-id", b"call-17")]))
    try:
        assert json.loads(lined("json", "at work"))["request_id"] == "call-17"
        assert "request_id=call-17" in lined("text", "at work")
    finally:
        CURRENT.set(None)
    assert "request_id" not in json.loads(lined("json", "at rest"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"a-Z_0.9", True), (b"x" * 64, True), (b"x" * 65, False), (b"", False)]
    + [(bad, False) for bad in (b"a b", b"a\tb", b"a;b", b'"', b"\xff", b"a\nb", b"{}")],
)
def test_a_request_id_that_is_not_sane_is_replaced(given: bytes, kept: bool) -> None:
    one, two = (Exchange([(b"x-request-id", given)]).id for _ in range(2))
    assert (one.encode() == given) is kept
    assert (one == two) is kept


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), logging.getLogger("margincast").level
    hooks = sys.excepthook
    yield root
    root.handlers[:] = handlers
    sys.excepthook = hooks
    logging.captureWarnings(False)
    logging.getLogger("margincast").setLevel(level)


def test_the_level_is_that_of_our_loggers(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(LogSettings("json", "warning"))
    configure_logs(LogSettings("json", "warning"))
    logging.getLogger("margincast.one").info("not shown")
    logging.getLogger("margincast.one").warning("shown once")
    logging.getLogger("elsewhere").warning("shown too")
    shown = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in shown] == ["shown once", "shown too"]
    assert all("worker" not in line for line in shown)


def test_an_error_that_ends_the_process_is_one_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.excepthook", None)
    configure_logs(LogSettings("json"))
    log_uncaught_errors()
    error = raised(lambda: _fail("gone"))
    sys.excepthook(type(error), error, error.__traceback__)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["level"], line["error"]["message"]) == ("critical", "gone")


def test_times_are_utc_with_microseconds() -> None:
    assert time_text(0.0) == "1970-01-01T00:00:00.000000Z"
    assert time_text(1767225599.999999) == "2025-12-31T23:59:59.999999Z"
