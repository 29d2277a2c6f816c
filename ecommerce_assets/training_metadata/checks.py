"""The checks of training_metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ecommerce_assets.storage.checks import Check, CheckContext
from ecommerce_assets.training_metadata.document import TrainingMetadata


def _totals_agree(context: CheckContext) -> str | None:
    document = context.document
    expected = {
        "total_users": context.input_rows("user_index"),
        "total_products": context.input_rows("product_index"),
        "total_interactions": context.input_number("product_index", "events"),
    }
    wrong = [f"{name} is {document[name]:,}, not {n:,.0f}" for name, n in expected.items() if document[name] != n]
    sizes, users = sum(segment["users"] for segment in document["segments"]), context.input_rows("segmented_users")
    if sizes != users:
        wrong.append(f"the segments have {sizes:,} users, not {users:,}")
    if document["segments_count"] != len(document["segments"]):
        wrong.append(f"segments_count is {document['segments_count']}, not {len(document['segments'])}")
    return "; ".join(wrong) or None


def _numbers_finite(context: CheckContext) -> str | None:
    paths = list(_not_finite(context.document, ""))
    return f"not a finite number: {', '.join(paths)}" if paths else None


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """Yields the paths of NaN and infinity in a document; JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path.lstrip(".")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{number}]")


def _matches_schema(context: CheckContext) -> str | None:
    try:
        TrainingMetadata.model_validate(context.document)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return None


TRAINING_METADATA_CHECKS = (
    Check("as_documented", "The document has the fields of its schema, with their types.", _matches_schema),
    Check("totals_agree", "The totals are those of the tables.", _totals_agree),
    Check("numbers_finite", "No number is NaN or infinite.", _numbers_finite),
)
