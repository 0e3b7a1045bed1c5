"""The reference of the command line, from the verbs as typer knows them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from pipelines.cli.main import app
from pipelines.cli.usage.examples import EXIT_CODES
from research.pages.markdown import table

COMMON_CODES = (
    ("0", "every verb", "done"),
    ("1", "every verb", "an error, in one line on stderr; `--debug` shows the traceback"),
    ("2", "every verb", "the command line is wrong"),
)


def command_line() -> str:
    """Markdown: exit codes, then every verb with its arguments and options."""
    parts = ["## Exit codes", table(("code", "verb", "meaning"), _exit_codes()), "## Verbs"]
    for name, command in verbs():
        parts += [
            f"### {name}",
            _paragraphs(command.help or ""),
            f"```text\n{_usage(name, command)}\n```",
        ]
        if command.epilog:
            parts.append(_paragraphs(command.epilog))
        rows = [_row(parameter) for parameter in command.params if not parameter_hidden(parameter)]
        if rows:
            parts.append(table(("argument or option", "value", "default", "meaning"), rows))
    return "\n\n".join(parts)


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb that can be called, with the words before it; groups are walked."""
    yield from _walk((), typer.main.get_command(app))


def parameter_hidden(parameter: Any) -> bool:
    """Whether help leaves a parameter out."""
    return bool(getattr(parameter, "hidden", False)) or parameter.name == "help"


def _exit_codes() -> list[tuple[str, str, str]]:
    own = ((name, *text.split(": ", 1)) for name, text in EXIT_CODES.items())
    return [*COMMON_CODES, *sorted((code, f"`{name}`", text) for name, code, text in own)]


def _walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name in sorted(children):
        yield from _walk((*words, name), children[name])


def _usage(name: str, command: Any) -> str:
    words = ["margincast", name, "[OPTIONS]"]
    words += [_argument(each) for each in command.params if each.param_type_name == "argument"]
    return " ".join(words)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required else f"[{name}]"


def _row(parameter: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    names = [parameter.metavar or parameter.name.upper()] if is_argument else parameter.opts
    is_flag = getattr(parameter, "is_flag", False)
    value = "" if is_flag else str(parameter.metavar or _kind(parameter.type_descriptor.annotation))
    repeatable = parameter.multiple or parameter.nargs == -1
    if parameter.required:
        default = "required"
    elif is_flag or parameter.default in (None, "") or callable(parameter.default):
        default = ""
    else:
        default = f"`{parameter.default}`"
    return (
        ", ".join(f"`{each}`" for each in names),
        value + (", repeatable" if repeatable and value else ""),
        default,
        _line(parameter.help or ""),
    )


def _kind(annotation: Any) -> str:
    """What a value is, in a word."""
    return {"Path": "path", "str": "text", "int": "whole number", "float": "number"}.get(
        getattr(annotation, "__name__", ""), "text"
    )


def _line(text: str) -> str:
    return " ".join(text.replace("\\[", "[").split())


def _paragraphs(text: str) -> str:
    blocks = inspect.cleandoc(text).replace("\b", "").split("\n\n")
    shown = "\n\n".join(_block(block) for block in blocks if block.strip())
    return shown.replace("\n```\n\n```text\n", "\n")  # commands one after the other


def _block(block: str) -> str:
    """A paragraph; what is set as commands stays as it is."""
    lines = block.strip("\n").splitlines()
    if any(line.strip().startswith(("$", "margincast ")) for line in lines):
        return "```text\n" + "\n".join(lines) + "\n```"
    return _line(block)
