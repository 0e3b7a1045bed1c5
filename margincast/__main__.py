"""``python -m margincast``, and the script ``margincast``: the command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line, see `pipelines.cli.main.main`."""
    from pipelines.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
