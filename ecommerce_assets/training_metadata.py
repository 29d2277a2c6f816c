"""training_metadata: one JSON document that says what the newest tables and models are, and how good.

All of it is read off manifests; nothing is computed from tables here.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.storage.artifact import Artifact
from ecommerce_assets.storage.audits import Audit, Evidence
from ecommerce_assets.storage.manifest import Manifest


def describe_training(manifests: Mapping[str, Manifest], now: datetime) -> dict[str, Any]:
    """The document.

    Keys: training_date (ISO 8601), total_users, total_products, total_interactions (accepted events), segments_count,
    silhouette, segments (name, size, mean features), rmse, evaluation (cut-off, users, and the ranking metrics, each
    [value, lower, upper]), coverage (of the published recommendations), parameters (by asset), seconds (by asset), rows
    (by asset), versions (by asset: its version and those of its inputs).

    Parameters
    ----------
    manifests
        By asset name.
    """
    model, segmented, evaluation = (manifests[n] for n in ("segmentation_model", "segmented_users", "als_evaluation"))
    return {
        "training_date": now.isoformat(timespec="seconds"),
        "total_users": manifests["user_index"].rows,
        "total_products": manifests["product_index"].rows,
        "total_interactions": manifests["user_index"].facts["measures"]["events"] or 0,
        "segments_count": segmented.facts["segments_count"],
        "silhouette": model.facts["silhouette"],
        "segments": segmented.facts["segments"],
        "rmse": evaluation.facts["rmse"],
        "evaluation": {name: value for name, value in evaluation.facts.items() if name != "measures"},
        "coverage": _coverage(manifests["recommendations"], manifests["product_index"]),
        "parameters": {name: m.parameters for name, m in manifests.items() if m.parameters},
        "seconds": {name: m.seconds for name, m in manifests.items()},
        "rows": {name: m.rows for name, m in manifests.items() if m.rows is not None},
        "versions": {
            name: {"version": m.version, "inputs": [_input(i.asset, i.version) for i in m.inputs]}
            for name, m in manifests.items()
        },
    }


def _coverage(recommendations: Manifest, product_index: Manifest) -> float | None:
    """Share of the products that the published table shows to anyone."""
    return recommendations.facts["measures"]["products_shown"] / product_index.rows if product_index.rows else None


def _input(asset: str, version: str | None) -> str:
    return f"{asset}/{version}" if version else asset


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


TRAINING_METADATA_AUDITS = (
    Audit("totals_agree", "The totals are those of the tables that are described.", _totals_agree),
    Audit("numbers_finite", "No number is NaN or infinite.", _numbers_finite),
)


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"json"},
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="json_io_manager",
)
def training_metadata(
    user_features: Manifest,
    product_features: Manifest,
    segmentation_model: Manifest,
    segmented_users: Manifest,
    user_index: Manifest,
    product_index: Manifest,
    interaction_data: Manifest,
    als_model: Manifest,
    als_evaluation: Manifest,
    recommendations: Manifest,
    similar_products: Manifest,
) -> Artifact:
    """What the newest tables and models are, what they were made from, with which parameters, and how good they are."""
    manifests = {manifest.asset: manifest for manifest in list(locals().values())}
    document = describe_training(manifests, datetime.now(UTC))
    return Artifact(document)
