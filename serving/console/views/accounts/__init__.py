"""What the pages of accounts and decisions show."""

__all__: list[str] = []
