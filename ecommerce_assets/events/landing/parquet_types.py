"""Which types of a Parquet file can be an event column. What their values say is judged by cleaning, not here."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.types as types

from ecommerce_assets.events.landing.errors import LandingError

_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "timestamp": types.is_timestamp,
    "date": types.is_date,
    "whole number": types.is_integer,
    "double": types.is_float64,
    "float": lambda kind: types.is_float32(kind) or types.is_float16(kind),
    "decimal": types.is_decimal,
    "text": lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
    "bytes of text": lambda kind: types.is_binary(kind) or types.is_large_binary(kind),
    "nothing but nulls": types.is_null,
}

_NUMBERS = ("whole number", "double", "float", "decimal", "text")
_TEXTS = ("text", "bytes of text", "whole number", "double", "float", "decimal")
_ALLOWED = {
    # A float has seven digits, which is too few for a time.
    "event_time": ("timestamp", "date", "text", "whole number", "double", "decimal"),
    "event_type": ("text", "bytes of text", "whole number"),
    "product_id": (*_NUMBERS, "bytes of text"),
    "category_id": (*_NUMBERS, "bytes of text"),
    "price": _NUMBERS,
    "user_id": (*_NUMBERS, "bytes of text"),
}


def require_type(file: Path, column: str, event_column: str, kind: pa.DataType) -> None:
    """Raises LandingError where `column` of the file cannot be read as `event_column`."""
    plain = kind.value_type if types.is_dictionary(kind) else kind
    allowed = _ALLOWED.get(event_column, _TEXTS)
    if not any(_KINDS[name](plain) for name in (*allowed, "nothing but nulls")):
        named = column if column == event_column else f"{column} (as {event_column})"
        raise LandingError(f"{file}: column {named} is {kind}; it can be {', '.join(allowed)}.")
