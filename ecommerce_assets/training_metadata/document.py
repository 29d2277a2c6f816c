"""The schema of the document, and how it is read off the manifests; nothing is computed from tables here.

The same for people is card.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ecommerce_assets.recommendation.lists import SOURCES
from ecommerce_assets.segmentation.stability import MOVED
from ecommerce_assets.storage.manifest import Manifest

Interval = tuple[float | None, float | None, float | None]
"""A value with the lower and the upper end of its bootstrap 95 % interval; null where there is none."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Segment(_Part):
    """One cluster of users."""

    segment_id: int = Field(description="Number of the cluster, from 0.")
    segment: str = Field(description="Its name; two clusters may bear the same.")
    users: int = Field(description="Users in it.")
    share: float = Field(description="Of all users, 0 to 1.")
    mean: dict[str, float] = Field(description="Mean of each clustering feature.")
    revenue: float | None = Field(default=None, description="Sum of monetary.")
    revenue_share: float | None = Field(default=None, description="Of the shop's revenue, 0 to 1.")
    difference: dict[str, float] = Field(
        default_factory=dict,
        description="By feature: (mean of the segment - mean of all users) / standard deviation of all users.",
    )
    description: str | None = Field(default=None, description="The segment in one sentence.")


class Evaluation(_Part):
    """als_evaluation: how good the lists are on what users did after a cut-off."""

    cutoff: str | None = Field(
        default=None, description="Trained on what was before it, judged on what came from it on."
    )
    holdout: str | None = Field(default=None, description="Why there are no ranking metrics, where there are none.")
    holdout_users: int | None = Field(
        default=None, description="Users who did something that could have been recommended."
    )
    metrics: dict[str, dict[str, Interval]] = Field(
        default_factory=dict,
        description="By metric (precision, recall, ndcg, map, hit_rate, coverage, served, novelty) and by system (als, "
        "published, popularity, and differences): value, lower and upper end of the 95 % interval, over all users.",
    )
    ndcg_by_slice: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="By slice of users (activity, segment, served by model or fallback): number of users, and the NDCG "
        "by system as in metrics.",
    )
    users_per_source: dict[str, int] = Field(
        default_factory=dict, description="Holdout users with at least one entry from als, segment_popular, popular."
    )
    shown_by_popularity: dict[str, list[float]] = Field(
        default_factory=dict,
        description="By system, the share of what is shown that falls to each tenth of the catalogue, the most popular "
        "first; touched: what users did before the cut-off.",
    )
    rmse: float | None = Field(default=None, description="On a fifth of the pairs, against the rating.")
    rmse_pairs: int | None = Field(default=None, description="Pairs that it was measured on.")
    rmse_pairs_left_out: int | None = Field(default=None, description="Pairs of users or products unknown to the rest.")


class Data(_Part):
    """What everything was made from."""

    first_day: str | None = Field(default=None, description="First day that was read.")
    last_day: str | None = Field(default=None, description="Last day that was read.")
    days: int = Field(default=0, description="Days that were read.")


class Recommendations(_Part):
    """The published lists."""

    users: int = Field(description="Users who have a list.")
    entries: int = Field(description="Entries of all lists.")
    coverage: float | None = Field(description="Share of all products that are shown to anyone.")
    sources: dict[str, int] = Field(description="Entries by source: als, segment_popular, popular.")


class SimilarProducts(_Part):
    """similar_products."""

    entries: int = Field(description="Rows.")
    same_category: float | None = Field(
        default=None, description="Share of the entries with the same category on both sides."
    )
    same_category_by_chance: float | None = Field(
        default=None, description="That share if the lists were drawn at random."
    )


class Version(_Part):
    """One version of an asset, and those it was made from."""

    version: str
    inputs: list[str] = Field(description="asset/version, or the asset alone where files came from outside.")


class FailedCheck(_Part):
    """A check that did not pass: a warning, for what fails a blocking one is not published."""

    asset: str
    check: str
    message: str
    partition: str | None = None


class TrainingMetadata(_Part):
    """training_metadata.json."""

    training_date: datetime = Field(description="When the document was made, ISO 8601.")
    total_users: int = Field(description="Users with an accepted event.")
    total_products: int = Field(description="Products with an accepted event.")
    total_interactions: int = Field(description="Accepted events.")
    segments_count: int = Field(description="Clusters that have users.")
    data: Data
    silhouette: float | None = Field(description="Of the clusters, -1 to 1; null where it says nothing.")
    segments: list[Segment]
    segments_changed: dict[str, Any] | None = Field(
        default=None,
        description="Since the version before: users of both versions, those whose segment changed its name, new and "
        "gone users, and the most frequent moves; null where there is no version before.",
    )
    rmse: float | None = Field(description="The same as evaluation.rmse.")
    evaluation: Evaluation
    coverage: float | None = Field(description="The same as recommendations.coverage.")
    recommendations: Recommendations
    similar_products: SimilarProducts
    als: dict[str, Any] = Field(description="What the fit found: vectors, engine and why, objective by iteration.")
    failed_checks: list[FailedCheck] = Field(description="Warnings of the versions that are described.")
    parameters: dict[str, dict[str, Any]] = Field(description="By asset.")
    seconds: dict[str, float] = Field(description="By asset, from its first input to its audited output.")
    rows: dict[str, int] = Field(description="By table.")
    versions: dict[str, Version] = Field(description="By asset.")

    @property
    def list_length(self) -> int:
        """Length of the lists that als_evaluation judged."""
        length: int = self.parameters.get("als_evaluation", {}).get("k", 10)
        return length


def describe_training(manifests: Mapping[str, Manifest], now: datetime) -> TrainingMetadata:
    """The document, of these manifests by asset name."""
    segmented, evaluation = manifests["segmented_users"], _facts(manifests["als_evaluation"])
    lists = _recommendations(manifests)
    return TrainingMetadata(
        training_date=now,
        total_users=manifests["user_index"].rows or 0,
        total_products=manifests["product_index"].rows or 0,
        total_interactions=_measures(manifests["user_index"])["events"] or 0,
        segments_count=segmented.facts["segments_count"],
        data=_data(manifests["user_index"]),
        silhouette=manifests["segmentation_model"].facts["silhouette"],
        segments=segmented.facts["segments"],
        segments_changed=_measures(segmented).get(MOVED) or None,
        rmse=evaluation["rmse"],
        evaluation=Evaluation(**evaluation),
        coverage=lists.coverage,
        recommendations=lists,
        similar_products=_similar(manifests["similar_products"]),
        als=_facts(manifests["als_model"]),
        failed_checks=[
            FailedCheck(asset=name, check=audit.name, message=audit.message, partition=audit.partition)
            for name, manifest in manifests.items()
            for audit in manifest.audits
            if not audit.passed
        ],
        parameters={name: m.parameters for name, m in manifests.items() if m.parameters},
        seconds={name: m.seconds for name, m in manifests.items()},
        rows={name: m.rows for name, m in manifests.items() if m.rows is not None},
        versions={
            name: Version(version=m.version, inputs=[_input(i.asset, i.version) for i in m.inputs])
            for name, m in manifests.items()
        },
    )


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in manifest.facts.items() if name != "measures"}


def _measures(manifest: Manifest) -> Mapping[str, Any]:
    measures: Mapping[str, Any] = manifest.facts["measures"]
    return measures


def _data(index: Manifest) -> Data:
    days = sorted({day for read in index.inputs for day in read.partitions})
    return Data(first_day=days[0], last_day=days[-1], days=len(days)) if days else Data()


def _recommendations(manifests: Mapping[str, Manifest]) -> Recommendations:
    manifest, products = manifests["recommendations"], manifests["product_index"].rows
    measures = _measures(manifest)
    return Recommendations(
        users=measures["users"] or 0,
        entries=manifest.rows or 0,
        coverage=measures["products_shown"] / products if products else None,
        sources={source: measures.get(f"source {source}") or 0 for source in SOURCES},
    )


def _similar(manifest: Manifest) -> SimilarProducts:
    measures = _measures(manifest)
    known = measures.get("with_categories")
    shares = {name: measures[name] / known if known else None for name in ("same_category", "same_category_by_chance")}
    return SimilarProducts(entries=manifest.rows or 0, **shares)


def _input(asset: str, version: str | None) -> str:
    return f"{asset}/{version}" if version else asset
