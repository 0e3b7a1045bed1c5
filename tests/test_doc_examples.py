"""Examples of README and docs: JSON parses, request bodies are accepted, verbs and keys exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from decisions.messages import Decision, ScoreRequest
from decisions.what_if.messages import WhatIfRequest
from monitoring.market_state.messages import BarsRequest
from monitoring.quotes.messages import QuotesRequest
from pipelines.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BODIES: dict[str, type[Any]] = {
    "/v1/score": ScoreRequest,
    "/v1/what-if": WhatIfRequest,
    "/v1/market/bars": BarsRequest,
    "/v1/market/quotes": QuotesRequest,
}
BLOCK = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```(?:sh|bash)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
CURL = re.compile(
    r"localhost:\d+(/v1/[\w/-]+)[^']*(?:'content-type: application/json')?\s*-d '(.*?)'", re.DOTALL
)


def blocks() -> list[tuple[str, str]]:
    return [(page.name, text) for page in PAGES for text in BLOCK.findall(page.read_text("utf-8"))]


def posts() -> list[tuple[str, str, str]]:
    return [(p.name, *found) for p in PAGES for found in CURL.findall(p.read_text("utf-8"))]


def test_pages_have_examples() -> None:
    assert len(blocks()) >= 8
    assert {route for _, route, _ in posts()} >= {"/v1/score", "/v1/market/quotes"}


@pytest.mark.parametrize(("page", "route", "body"), posts())
def test_bodies_of_curl_examples_are_accepted(page: str, route: str, body: str) -> None:
    msgspec.json.decode(body, type=BODIES[route])


@pytest.mark.parametrize(("page", "text"), blocks())
def test_json_examples_parse_and_requests_are_accepted(page: str, text: str) -> None:
    found = json.loads(text)
    requests = {"quotes": QuotesRequest, "bars": BarsRequest}
    for key, kind in requests.items():
        if key in found:
            msgspec.convert(found, kind)
    if "accounts" in found:
        kind = WhatIfRequest if {"changes", "largest", "shocks"} & set(found) else ScoreRequest
        msgspec.convert(found, kind)
    if "account_id" in found and "headroom" in found:
        fields = {field.name for field in msgspec.structs.fields(Decision)}
        assert set(found) <= fields
        assert found["headroom"] == pytest.approx(found["equity"] - found["maintenance_margin"])
        assert found["total_requirement"] == found["maintenance_margin"] + found["add_on"]


def commands() -> list[tuple[str, str]]:
    """Every line that runs margincast in a block of a page, continued lines joined."""
    found = []
    for page in PAGES:
        for block in FENCED.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"(?:\S+=\S+ )*(?:\S*/)?margincast ((?!fit-market)[a-z].*)", line)
                if match:
                    found.append((page.name, match[1]))
    return found


def test_pages_have_commands() -> None:
    assert len(commands()) >= 30


@pytest.mark.parametrize(("page", "line"), commands())
def test_verb_and_options_of_a_command_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while words and getattr(command, "commands", None):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= known | {"--help"}, line
    required = {p.opts[0] for p in command.params if p.required and p.param_type_name == "option"}
    assert required <= given, line


def test_verbs_of_the_readme_exist() -> None:
    group: Any = typer.main.get_command(app)
    table = (ROOT / "README.md").read_text("utf-8").partition("| verb | does |")[2]
    rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines() if "`" in line]
    named = {
        tuple(verb.split(" --")[0].split()) for row in rows for verb in re.findall("`([^`]+)`", row)
    }
    assert len(named) >= 12
    for words in named:
        command = group
        for word in words:
            if word.isupper():  # an argument
                break
            assert word in command.commands, " ".join(words)
            command = command.commands[word]
