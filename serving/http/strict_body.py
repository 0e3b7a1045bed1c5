"""Request bodies, decoded strictly.

The framework's own decoding converts texts to numbers, so that ``"nan"`` would pass for a price.
Here a body is exactly what its struct says, or it is refused by the path of what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from litestar.dto import AbstractDTO

from serving.http.problems import invalid

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.dto.data_structures import DTOFieldDefinition
    from litestar.openapi.spec import Reference, Schema
    from litestar.typing import FieldDefinition

T = TypeVar("T")


class StrictBody(AbstractDTO[T]):
    """Decodes a JSON body into one struct: ``@post(dto=StrictBody[ScoreRequest])``."""

    def decode_bytes(self, value: bytes) -> Any:
        """The struct that a body describes.

        Raises
        ------
        ProblemError
            422: it is not JSON, a field is unknown or missing, or a value is of another type or
            outside its limits.
        """
        try:
            return msgspec.json.decode(value, type=self.model_type)
        except msgspec.ValidationError as error:
            raise invalid(f"the body does not fit: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid(f"the body is not JSON: {error}") from None
        except RecursionError:
            raise invalid("the body is nested too deeply") from None

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to prepare: the struct itself decodes and describes the body."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        """The schema of the struct."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Iterator[DTOFieldDefinition]:  # type: ignore[override]  # a generator is one
        """No fields of its own."""
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """No fields, so none is nested."""
        return False
