"""What must hold of training_metadata before it is published.

What the document holds, and its types, stand in document.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ecommerce_assets.storage.audits import Audit, Evidence
from ecommerce_assets.training_metadata.document import TrainingMetadata


def _totals_agree(evidence: Evidence) -> str | None:
    document = evidence.document
    wanted = {
        "total_users": evidence.rows_of("user_index"),
        "total_products": evidence.rows_of("product_index"),
        "total_interactions": evidence.upstream("product_index", "events"),
    }
    wrong = [f"{name} is {document[name]:,}, not {n:,.0f}" for name, n in wanted.items() if document[name] != n]
    sizes, users = sum(segment["users"] for segment in document["segments"]), evidence.rows_of("segmented_users")
    if sizes != users:
        wrong.append(f"the segments hold {sizes:,} users, not {users:,}")
    if document["segments_count"] != len(document["segments"]):
        wrong.append(f"segments_count is {document['segments_count']}, not {len(document['segments'])}")
    return "; ".join(wrong) or None


def _numbers_finite(evidence: Evidence) -> str | None:
    broken = list(_not_finite(evidence.document, ""))
    return f"no finite number: {', '.join(broken)}" if broken else None


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """Where in a document the numbers are that JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path.lstrip(".")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{number}]")


def _as_documented(evidence: Evidence) -> str | None:
    try:
        TrainingMetadata.model_validate(evidence.document)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return None


TRAINING_METADATA_AUDITS = (
    Audit("as_documented", "The document has the fields of its schema, with their types.", _as_documented),
    Audit("totals_agree", "The totals are those of the tables that are described.", _totals_agree),
    Audit("numbers_finite", "No number is NaN or infinite.", _numbers_finite),
)
