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
    wanted = {
        "total_users": context.input_rows("user_index"),
        "total_products": context.input_rows("product_index"),
        "total_interactions": context.input_number("product_index", "events"),
    }
    wrong = [f"{name} is {document[name]:,}, not {n:,.0f}" for name, n in wanted.items() if document[name] != n]
    sizes, users = sum(segment["users"] for segment in document["segments"]), context.input_rows("segmented_users")
    if sizes != users:
        wrong.append(f"the segments have {sizes:,} users, not {users:,}")
    if document["segments_count"] != len(document["segments"]):
        wrong.append(f"segments_count is {document['segments_count']}, not {len(document['segments'])}")
    totals = ", ".join(f"{name} {document[name]:,}" for name in wanted)
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
    """The paths of the numbers in a document that JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path.lstrip(".")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{number}]")


def _as_documented(context: CheckContext) -> Outcome | str:
    try:
        TrainingMetadata.model_validate(context.document)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return Outcome(checked=f"{len(TrainingMetadata.model_fields)} fields, as in the JSON Schema")


TRAINING_METADATA_CHECKS = (
    Check("as_documented", "The document has the fields of its schema, with their types.", _as_documented),
    Check("totals_agree", "The totals are those of the tables that are described.", _totals_agree),
    Check("numbers_finite", "No number is NaN or infinite.", _numbers_finite),
)
