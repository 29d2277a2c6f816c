"""The checks of training_metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.training_metadata.document import TrainingMetadata


def _totals_agree(context: CheckContext) -> Outcome:
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
    totals = ", ".join(f"{name} {document[name]:,}" for name in expected)
    return Outcome("; ".join(wrong), checked=f"{totals}, segments_count {document['segments_count']}")


def _numbers_finite(context: CheckContext) -> Outcome:
    broken = list(_not_finite(context.document, ""))
    return Outcome(
        f"not a finite number: {', '.join(broken)}" if broken else "",
        checked=f"{_count_numbers(context.document):,} numbers, all finite",
    )


def _count_numbers(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_count_numbers, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count_numbers, value))
    return isinstance(value, int | float)


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


def _matches_schema(context: CheckContext) -> Outcome | str:
    try:
        TrainingMetadata.model_validate(context.document)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return Outcome(checked=f"{len(TrainingMetadata.model_fields)} fields, as in the JSON Schema")


TRAINING_METADATA_CHECKS = (
    Check("as_documented", "The document has the fields of its schema, with their types.", _matches_schema),
    Check("totals_agree", "The totals are those of the tables.", _totals_agree),
    Check("numbers_finite", "No number is NaN or infinite.", _numbers_finite),
)
