"""Schemas of messages in the OpenAPI document, from their structs."""

from __future__ import annotations

from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import msgspec
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from market.sources.http import History
from serving.http.documentation.field_texts import field_texts, title_of

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.openapi.spec import Schema


class StructSchema(StructSchemaPlugin):
    """Describes a struct: by its docstring, each field by the string below it, and of one that
    refuses unknown fields that it does."""

    def to_openapi_schema(
        self, field_definition: FieldDefinition, schema_creator: SchemaCreator
    ) -> Schema:
        """The schema of a struct."""
        schema = super().to_openapi_schema(field_definition, schema_creator)
        struct = field_definition.annotation
        config = struct.__struct_config__
        if config.forbid_unknown_fields:
            schema.additional_properties = False
        schema.title = title_of(struct)
        schema.description = cleandoc(struct.__doc__)
        texts = field_texts(struct)
        if config.tag_field is not None:
            texts[config.tag_field] = f"Always `{config.tag}`: {schema.description.split('.')[0]}."
        for name, described in (schema.properties or {}).items():
            described.description = texts.get(name) or described.description
        return schema


class HistorySchema(OpenAPISchemaPlugin):
    """Describes the one field that a struct leaves undecoded, the history of an account."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Whether it is JSON as it was sent."""
        return value is msgspec.Raw

    def to_openapi_schema(
        self, field_definition: FieldDefinition, schema_creator: SchemaCreator
    ) -> Any:
        """The schema of what it is once it is read."""
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(History))
