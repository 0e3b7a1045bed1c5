"""Write the pictures of README and documentation: ``python -m research.pages.pictures``."""

from __future__ import annotations

from research.pages.pictures.album import write_pictures

if __name__ == "__main__":
    write_pictures()
