"""What the types of the fields of kio's schemas say: a sequence is a tuple, and what may be null a union with None."""

from types import UnionType
from typing import Any, Union, get_args, get_origin


def item_type(hint: Any) -> Any:
    """Of a sequence, the type of its items."""
    hint = without_none(hint)
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def without_none(hint: Any) -> Any:
    if is_nullable(hint):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def is_nullable(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
