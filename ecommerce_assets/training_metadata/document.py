"""The schema of training_metadata.json. `describe_training` makes the document from the metadata of the versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ecommerce_assets.recommendation.lists import SOURCES
from ecommerce_assets.recommendation.scores import USER_METRICS
from ecommerce_assets.recommendation.systems import DIFFERENCES, SYSTEMS
from ecommerce_assets.storage.version import Version

Interval = tuple[float | None, float | None, float | None]
"""A value, and the lower and upper end of its bootstrap 95 % interval; null if there is none."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Segment(_Part):
    """One cluster of users."""

    segment_id: int = Field(description="Number of the cluster, from 0.")
    segment: str = Field(description="Name of the cluster. Two clusters may have the same name.")
    users: int = Field(description="Number of users in the cluster.")
    share: float = Field(description="Share of all users, 0 to 1.")
    mean: dict[str, float] = Field(description="Mean of each clustering feature.")
    revenue: float | None = Field(default=None, description="Sum of monetary.")
    revenue_share: float | None = Field(default=None, description="Share of the shop's revenue, 0 to 1.")
    difference: dict[str, float] = Field(
        default_factory=dict,
        description="By feature: (mean of the segment - mean of all users) / standard deviation of all users.",
    )
    description: str | None = Field(default=None, description="The segment in one sentence.")


class Evaluation(_Part):
    """als_evaluation: metrics of all systems on the holdout, which are the events after a cutoff."""

    cutoff: str | None = Field(
        default=None,
        description="Time that splits the events: systems are trained on those before it, scored on those after it.",
    )
    holdout: str | None = Field(default=None, description="Reason for missing ranking metrics; null if there are any.")
    holdout_users: int | None = Field(
        default=None, description="Number of users with a relevant product in the holdout."
    )
    best_baseline: str | None = Field(
        default=None, description="The baseline with the highest NDCG over all users; null without a holdout."
    )
    best_baselines: dict[str, str] = Field(
        default_factory=dict, description="Best baseline by exclusion (purchased, seen, none)."
    )
    metrics: dict[str, dict[str, Interval]] = Field(
        default_factory=dict,
        description=f"By metric ({', '.join((*USER_METRICS, 'coverage', 'novelty', 'diversity'))}) and by system "
        f"({', '.join(SYSTEMS)}) or difference ({', '.join(DIFFERENCES)}): value, lower and upper end of the 95 % "
        "interval, over all users, for the configured exclusion.",
    )
    ndcg_by_exclude: dict[str, dict[str, Interval]] = Field(
        default_factory=dict, description="NDCG by exclusion and by system, as in metrics."
    )
    ndcg_by_slice: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="By slice of users (activity, segment, served by recommenders or fallback): number of users, and "
        "the NDCG by system as in metrics.",
    )
    users_per_source: dict[str, int] = Field(
        default_factory=dict,
        description=f"Holdout users with at least one entry of the published list from {', '.join(SOURCES)}.",
    )
    shown_by_popularity: dict[str, list[float]] = Field(
        default_factory=dict,
        description="By system: share of its entries in each tenth of the catalogue, the most popular tenth first. "
        "touched: the same for the products that users interacted with before the cutoff.",
    )
    blend: dict[str, Any] | None = Field(
        default=None,
        description="Stats of blend_model: weight, mean and scale of each feature (null: too few training users), "
        "intercept, and number of training users. Null: the ranker is als.",
    )
    rmse: float | None = Field(
        default=None, description="Root mean squared error of the rating, on a random fifth of the pairs."
    )
    rmse_pairs: int | None = Field(default=None, description="Number of pairs that rmse is computed on.")
    rmse_pairs_left_out: int | None = Field(
        default=None,
        description="Number of pairs that are left out, because their user or product is not in the training part.",
    )


class Data(_Part):
    """The days of events that were read."""

    first_day: str | None = Field(default=None, description="First day.")
    last_day: str | None = Field(default=None, description="Last day.")
    days: int = Field(default=0, description="Number of days.")


class Recommendations(_Part):
    """The table recommendations."""

    users: int = Field(description="Number of users with a list.")
    entries: int = Field(description="Number of entries of all lists.")
    coverage: float | None = Field(description="Share of all products that are in at least one list.")
    sources: dict[str, int] = Field(description="Number of entries by source, for the sources that occur.")


class SimilarProducts(_Part):
    """The table similar_products."""

    entries: int = Field(description="Number of entries.")
    same_category: float | None = Field(
        default=None, description="Share of the entries whose two products have the same category."
    )
    same_category_by_chance: float | None = Field(
        default=None, description="The same share for lists of random products."
    )


class VersionInputs(_Part):
    """A version of an asset and its inputs."""

    version: str
    inputs: list[str] = Field(description="`asset/version`; `asset` alone for an external asset.")


class FailedCheck(_Part):
    """A check that failed with a warning. A version that fails a blocking check is not published."""

    asset: str
    check: str
    message: str
    partition: str | None = None


class TrainingMetadata(_Part):
    """training_metadata.json."""

    training_date: datetime = Field(description="Time of the document (ISO 8601).")
    total_users: int = Field(description="Number of users with an accepted event.")
    total_products: int = Field(description="Number of products with an accepted event.")
    total_interactions: int = Field(description="Number of accepted events.")
    segments_count: int = Field(description="Number of clusters with users.")
    data: Data
    silhouette: float | None = Field(
        description="Silhouette of the segmentation, -1 to 1; null: too few users or clusters."
    )
    segments: list[Segment]
    rmse: float | None = Field(description="The same as evaluation.rmse.")
    evaluation: Evaluation
    coverage: float | None = Field(description="The same as recommendations.coverage.")
    recommendations: Recommendations
    similar_products: SimilarProducts
    als: dict[str, Any] = Field(
        description="Stats of als_model: number of vectors, engine and the reason for it, objective by iteration."
    )
    failed_checks: list[FailedCheck] = Field(description="Failed checks of these versions.")
    parameters: dict[str, dict[str, Any]] = Field(description="Parameters by asset.")
    seconds: dict[str, float] = Field(description="Seconds by asset, from reading the first input to publishing.")
    rows: dict[str, int] = Field(description="Number of rows by table.")
    versions: dict[str, VersionInputs] = Field(description="Version and inputs by asset.")

    @property
    def list_length(self) -> int:
        """Returns the length of the lists that als_evaluation scored."""
        length: int = self.parameters.get("als_evaluation", {}).get("k", 10)
        return length


def describe_training(versions: Mapping[str, Version], now: datetime) -> TrainingMetadata:
    """Returns the document about these versions, by asset."""
    segmented, evaluation = versions["segmented_users"], versions["als_evaluation"].stats.results
    lists = _recommendations(versions)
    return TrainingMetadata(
        training_date=now,
        total_users=versions["user_index"].stats.rows or 0,
        total_products=versions["product_index"].stats.rows or 0,
        total_interactions=int(versions["user_index"].stats.numbers.get("events") or 0),
        segments_count=segmented.stats.results["segments_count"],
        data=_data(versions["user_index"]),
        silhouette=versions["segmentation_model"].stats.results["silhouette"],
        segments=segmented.stats.results["segments"],
        rmse=evaluation["rmse"],
        evaluation=Evaluation(**evaluation),
        coverage=lists.coverage,
        recommendations=lists,
        similar_products=_similar_products(versions["similar_products"]),
        als=versions["als_model"].stats.results,
        failed_checks=[
            FailedCheck(asset=name, check=check.name, message=check.message, partition=check.partition)
            for name, version in versions.items()
            for check in version.checks
            if not check.passed
        ],
        parameters={name: m.parameters for name, m in versions.items() if m.parameters},
        seconds={name: m.seconds for name, m in versions.items()},
        rows={name: m.stats.rows for name, m in versions.items() if m.stats.rows is not None},
        versions={
            name: VersionInputs(version=m.version, inputs=[_input(i.asset, i.version) for i in m.inputs])
            for name, m in versions.items()
        },
    )


def _data(index: Version) -> Data:
    days = sorted({day for each in index.inputs for day in each.partitions})
    return Data(first_day=days[0], last_day=days[-1], days=len(days)) if days else Data()


def _recommendations(versions: Mapping[str, Version]) -> Recommendations:
    stats, products = versions["recommendations"].stats, versions["product_index"].stats.rows
    return Recommendations(
        users=int(stats.numbers.get("users") or 0),
        entries=stats.rows or 0,
        coverage=(stats.numbers.get("products_shown") or 0) / products if products else None,
        sources={source: count for source, count in stats.shares.get("source", {}).items() if count},
    )


def _similar_products(version: Version) -> SimilarProducts:
    numbers = version.stats.numbers
    with_categories = numbers.get("with_categories")
    names = ("same_category", "same_category_by_chance")
    return SimilarProducts(
        entries=version.stats.rows or 0,
        **{name: (numbers.get(name) or 0) / with_categories if with_categories else None for name in names},
    )


def _input(asset: str, version: str | None) -> str:
    return f"{asset}/{version}" if version else asset
