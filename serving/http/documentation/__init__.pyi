from .docs_page import DocsPage as DocsPage
from .route_docs import DocumentedOperation as DocumentedOperation
from .struct_schema import HistorySchema as HistorySchema, StructSchema as StructSchema

__all__ = ["DocsPage", "DocumentedOperation", "HistorySchema", "StructSchema"]
