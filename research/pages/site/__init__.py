"""The documentation site: what MkDocs generates from the code when it builds (`mkdocs.yml`)."""
