"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration; default margincast.toml.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]
BundlePath = Annotated[
    Path, typer.Option("--bundle", help="A bundle folder or the pointer file champion.")
]
AccountFiles = Annotated[Path, typer.Option("--accounts", help="Folder of the account files.")]
Cases = Annotated[Path, typer.Option("--cases", help="Cases, one JSON object a line.")]
Results = Annotated[Path, typer.Option("--out", help="Results, one JSON object a line.")]
