"""Request bodies, decoded strictly.

The framework's own decoding converts texts to numbers, so that ``"nan"`` would pass for a price.
Here a body is exactly what its struct says, or it is refused by the path of what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from litestar.dto import AbstractDTO
from litestar.typing import FieldDefinition

from serving.http.problems import invalid
from serving.http.security.duplicate_keys import duplicate_key

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.dto.data_structures import DTOFieldDefinition
    from litestar.openapi.spec import Reference, Schema

T = TypeVar("T")


def strict_decoder(model: type[T]) -> Callable[[bytes], T]:
    """A function that decodes a JSON body into a struct.

    It raises `ProblemError` 422 where a body is not JSON, a field is unknown or missing, a value is
    of another type or outside its limits, or an object names a key twice.
    """
    decoder = msgspec.json.Decoder(model)
    duplicate_key(b"{}")  # compiles where the cache of kernels lacks it

    def decode(body: bytes) -> T:
        try:
            decoded = decoder.decode(body)
            twice = duplicate_key(body)  # also reads keys that the decoder left as they are
        except msgspec.ValidationError as error:
            raise invalid(f"the body does not fit: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid(f"the body is not JSON: {error}") from None
        except RecursionError:
            raise invalid("the body is nested too deeply") from None
        if twice is not None:
            raise invalid(
                f"the body names the key {twice.key!r} twice in one object - at `{twice.path}`"
            )
        return decoded

    return decode


_decoders: dict[type[Any], Callable[[bytes], Any]] = {}


class Encoded(Generic[T]):
    """A body that is decoded where there is time for it, not on the event loop.

    Attributes
    ----------
    body:
        As it was sent.
    """

    def __init__(self, body: bytes, decode: Callable[[bytes], T]) -> None:
        self.body, self._decode = body, decode

    def decode(self) -> T:
        """The struct that the body describes; raises as `strict_decoder`."""
        return self._decode(self.body)


class StrictBody(AbstractDTO[T]):
    """A JSON body of one struct: ``@post(dto=StrictBody[WhatIfRequest])``; gives `Encoded`."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body, not decoded yet."""
        decode = _decoders.get(self.model_type)
        if decode is None:
            decode = _decoders[self.model_type] = strict_decoder(self.model_type)
        return Encoded(value, decode)

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to prepare: the struct itself decodes and describes the body."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        """The schema of the struct."""
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.model_type))

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Iterator[DTOFieldDefinition]:  # type: ignore[override]  # a generator is one
        """No fields of its own."""
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """No fields, so none is nested."""
        return False
