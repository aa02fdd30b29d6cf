"""The JSON schema of a field that holds any schedule: the union of the kinds that are entered when it is made."""

from contextvars import ContextVar
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from cfglab.schedules.registry import KINDS

_inside = ContextVar("inside", default=False)
"""True while the kinds are written: they hold schedules themselves, and refer to the union there."""


def schema_of_kinds(handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """The union of all kinds, told apart by `kind`. Each kind is defined once in a document.

    Args:
        handler: As pydantic passes it to `__get_pydantic_json_schema__`.

    Returns:
        The JSON schema.
    """
    kinds = {name: _parts(kind.__pydantic_core_schema__) for name, kind in KINDS.items()}
    union = core_schema.tagged_union_schema(
        {name: core_schema.definition_reference_schema(schema["ref"]) for name, (schema, _) in kinds.items()},
        discriminator="kind",
    )
    if _inside.get():
        return handler(union)
    token = _inside.set(True)
    try:
        definitions = [part for schema, others in kinds.values() for part in (*others, schema)]
        return handler(core_schema.definitions_schema(union, definitions))
    finally:
        _inside.reset(token)


def _parts(schema: Any) -> tuple[Any, list[Any]]:
    """The schema of a class and the definitions that it refers to."""
    return (schema["schema"], schema["definitions"]) if schema["type"] == "definitions" else (schema, [])
