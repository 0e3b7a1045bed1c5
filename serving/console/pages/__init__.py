"""The pages of the console, one module a page: its route, and what its template is given."""

__all__: list[str] = []
