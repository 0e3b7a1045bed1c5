"""The configuration to start with: that of the demonstration, with every key and its meaning.

It is ``margincast.toml`` of the repository, which the wheel holds beside its packages.
"""

from __future__ import annotations

from pathlib import Path

from market.core.errors import ConfigError

_SHIPPED = Path(__file__).resolve().parents[2] / "margincast.toml"


def write_starting_file(file: Path) -> None:
    """Write the configuration of the demonstration to a new file.

    Raises
    ------
    ConfigError
        The file exists; it is left as it is.
    OSError
        It cannot be written.
    """
    content = _SHIPPED.read_bytes()
    try:
        with file.open("xb") as stream:
            stream.write(content)
    except FileExistsError:
        raise ConfigError(
            f"configuration file {str(file)!r} exists and is not overwritten; "
            "rename it, or go to another folder"
        ) from None
