"""Requests that are right, of every API and version, with one item in every array."""

from dataclasses import MISSING, fields
from datetime import timedelta
from io import BytesIO
from types import UnionType
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from kio.index import load_request_schema
from kio.serial import entity_writer

from logserver.kafka.apis import ApiKey
from tests.server.kafka_door.client import request_header
from tests.server.kafka_door.requests import batch

_RECORDS = batch(b"v")
_ID = UUID(int=0x0123456789ABCDEF)


def example_request(api_key: ApiKey, version: int, correlation_id: int = 1, **given: Any) -> bytes:
    """A frame without its size. given: values of the request's own fields."""
    schema: Any = load_request_schema(api_key, version)
    body = BytesIO()
    entity_writer(schema)(body, _example(schema, given))
    return request_header(api_key, version, correlation_id) + body.getvalue()


def _example(schema: Any, given: dict[str, Any]) -> Any:
    values = {}
    for field in fields(schema):
        if field.name in given:
            values[field.name] = given[field.name]
        elif field.metadata.get("tag") is None or field.default is MISSING:
            values[field.name] = _value(field.metadata.get("kafka_type"), field.type)
    return schema(**values)


def _value(kafka_type: str | None, hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return (_value(kafka_type, get_args(hint)[0]),)
    match kafka_type:
        case None:
            return _example(hint, {})
        case "string":
            return "t"
        case "bool":
            return True
        case "uuid":
            return _ID
        case "bytes":
            return b"\0\1\0\0"
        case "records":
            return _RECORDS
        case "timedelta_i32" | "timedelta_i64":
            return timedelta(milliseconds=7)
        case _:
            return 1
