"""The assets of segments, customer groups, their history and customer value; segmentation_by_k has its own job."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.segmentation import checks, customer_plots, plots
from ecommerce_assets.segmentation.by_k import MAX_K, MIN_K, quality_by_k
from ecommerce_assets.segmentation.customer_groups import CUSTOMER_GROUPS, assign_groups, group_cells, score_bounds
from ecommerce_assets.segmentation.customer_value import CUSTOMER_VALUE, HORIZON_DAYS, build_customer_value
from ecommerce_assets.segmentation.model import SEGMENTATION_MODEL_PARTS, SegmentationModel, SegmentationParameters
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS, assign_segments, choose_engine, fit_segmentation
from ecommerce_assets.segmentation.profile import profile
from ecommerce_assets.segmentation.segment_history import SEGMENT_HISTORY, Dates, add_changes, movement
from ecommerce_assets.settings import RfmBounds, Settings
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.inputs import NewestVersions, given, promoted_field
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets.storage.version import Version

GROUP = "segmentation"

COMMON: dict[str, Any] = {
    "group_name": GROUP,
    "owners": OWNERS,
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


class FixedBounds(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Fixed bounds of the scores of customer_groups. Bounds that are not set are computed from the buyers."""

    purchase_recency: list[float] | None = Field(default=None, description="Four numbers of days in ascending order.")
    purchase_days: list[float] | None = Field(default=None, description="Four numbers of days in ascending order.")
    monetary: list[float] | None = Field(default=None, description="Four amounts in ascending order.")

    @classmethod
    def of(cls, settings: Settings) -> "FixedBounds":
        """Returns the bounds in the settings."""
        bounds = settings.rfm_bounds or RfmBounds()
        return cls(**{name: list(values) for name, values in bounds.as_dict().items()})

    def as_bounds(self) -> RfmBounds:
        """Returns the bounds in the type of the settings."""
        return RfmBounds.model_validate({name: getattr(self, name) for name in RfmBounds.model_fields})


class SegmentationConfig(dg.Config):
    """Parameters of K-Means, by the names that Spark gives them, and the engine."""

    k: int | None = promoted_field(SegmentationParameters.k, "Number of clusters.", ge=2)
    seed: int | None = promoted_field(SegmentationParameters.seed, "Seed of the initial centres.")
    maxIter: int | None = promoted_field(SegmentationParameters.maxIter, "Maximum number of K-Means iterations.", ge=1)
    engine: Engine = Field(
        Engine.auto,
        description="local: this machine, without Spark; mllib: Spark; auto: local if Spark runs on this machine "
        "and the users fit in its memory.",
    )


@dg.asset(
    kinds={"spark", "kmeans"},
    code_version="2",
    io_manager_key="model_io_manager",
    **COMMON,
)
def segmentation_model(
    context: dg.AssetExecutionContext,
    config: SegmentationConfig,
    newest_versions: NewestVersions,
    user_features: StoredTable,
) -> Artifact:
    """K-Means on the standardised user features. `PipelineModel.load` of plain PySpark loads its folder `model`."""
    promoted = newest_versions.promoted(context).of("segmentation_model")
    parameters = SegmentationParameters.of({**promoted, **given(config)})
    choice = choose_engine(user_features, config.engine)
    context.log.info(choice.reason)
    fit = fit_segmentation(user_features, parameters, choice.engine)
    if fit.silhouette is None:
        context.log.warning("No silhouette: it needs at least two clusters with users, and more users than clusters.")
    results = {
        "silhouette": fit.silhouette,
        "cost": fit.cost,
        "clusters": len(fit.model.centres),
        "engine_reason": choice.reason,
    }
    used = {**parameters.as_dict(), "engine": choice.engine.value}
    features = [(user_features.frame, name) for name in CLUSTERING_FEATURES]
    return Artifact(fit.model, used, results, made_from=dict.fromkeys(SEGMENTATION_MODEL_PARTS, features))


@dg.asset(
    kinds={"spark", "parquet"},
    code_version="2",
    **COMMON,
)
def segmented_users(user_features: DataFrame, segmentation_model: Folder) -> Artifact:
    """Features of each user, with the number and the name of the user's segment."""
    model = SegmentationModel.load(segmentation_model)
    users, segments = assign_segments(model, user_features)
    results = {
        "segments_count": len(segments),
        "segments": [asdict(each) for each in profile(segments)],
        "has_views": any(segment.has_views for segment in segments),
    }
    parts = [f"segmentation_model.{part}" for part in SEGMENTATION_MODEL_PARTS]
    users = made_from(users, {"segment_id": parts, "segment": parts})
    return Artifact(users, model.parameters.as_dict(), results)


@dg.asset(
    kinds={"spark", "parquet"},
    code_version="1",
    **COMMON,
)
def customer_groups(rfm_bounds: FixedBounds, user_features: DataFrame) -> Artifact:
    """Recency, frequency and monetary scores of each user, and the group by these scores, such as At Risk."""
    bounds = score_bounds(user_features, rfm_bounds.as_bounds())
    return Artifact(assign_groups(user_features, bounds), {"bounds": bounds.as_dict()})


@dg.asset(
    kinds={"spark", "parquet"},
    code_version="1",
    **COMMON,
)
def segment_history(
    context: dg.AssetExecutionContext,
    newest_versions: NewestVersions,
    user_features: Version,
    segmented_users: DataFrame,
    customer_groups: DataFrame,
) -> Artifact:
    """Segment and group of each user, for each date since the first run on which one of them changed."""
    reference = user_features.stats.results.get("reference_date")
    if reference is None:  # written by an earlier release, or there are no events
        raise ValueError(f"user_features {user_features.version} has no reference date: materialise it again.")
    day = datetime.fromisoformat(reference).date()
    previous = newest_versions.table(context, "segment_history", segmented_users.sparkSession)
    version, history = previous or (None, None)
    if version and day.isoformat() < version.parameters["date"]:
        context.log.warning(
            f"segment_history does not change: the data end on {day}, before its last date, "
            f"{version.parameters['date']}."
        )
        return Artifact(history, version.parameters)
    dates = Dates.following(day, version.parameters if version else {})
    changed = add_changes(history, segmented_users, customer_groups, day)
    return Artifact(made_from(changed, {"date": ["user_features.last_event_time"]}), dates.as_dict())


@dg.asset(
    kinds={"spark", "parquet"},
    code_version="1",
    **COMMON,
)
def customer_value(cleaned_events: DataFrame) -> Artifact:
    """Probability that a buyer is still active, and expected purchases and value in the next 90 days."""
    buyers, report = build_customer_value(cleaned_events)
    return Artifact(buyers, {"horizon_days": HORIZON_DAYS}, report.as_dict())


@dg.multi_asset(
    name="try_each_k",  # a job and a step cannot share a name, and the job has the asset's
    group_name=GROUP,
    backfill_policy=dg.BackfillPolicy.single_run(),
    outs={
        "segmentation_by_k": dg.AssetOut(
            owners=OWNERS,
            kinds={"spark", "json"},
            code_version="1",
            io_manager_key="json_io_manager",
            description="Silhouette and cost of the segmentation for k from 2 to 10, to choose k by. The job of the "
            "same name materialises it.",
        )
    },
)
def segmentation_by_k(
    context: dg.AssetExecutionContext, user_features: StoredTable, segmentation_model: Version
) -> Artifact:
    """Fits K-Means for each k, with the other parameters of the newest segmentation_model."""
    parameters = SegmentationParameters.of(segmentation_model.parameters)
    engine = Engine(segmentation_model.parameters.get("engine", Engine.auto))
    ks = {*range(MIN_K, MAX_K + 1), parameters.k}
    document = {
        "k_in_use": parameters.k,
        "by_k": [asdict(each) for each in quality_by_k(user_features, ks, parameters, context.log.info, engine)],
    }
    return Artifact(document, parameters.as_dict())


ASSETS = (segmentation_model, segmented_users, customer_groups, segment_history, customer_value)
ON_DEMAND_ASSETS = (segmentation_by_k,)

CATALOG = {
    "segmentation_model": StoredAsset(None, checks.SEGMENTATION_MODEL_CHECKS, SEGMENTATION_MODEL_PARTS),
    "segmented_users": StoredAsset(
        SEGMENTED_USERS,
        checks.SEGMENTED_USERS_CHECKS,
        plots=plots.SEGMENTED_USERS_PLOTS,
        notes=plots.SEGMENTED_USERS_NOTES,
    ),
    "customer_groups": StoredAsset(
        CUSTOMER_GROUPS,
        checks.CUSTOMER_GROUPS_CHECKS,
        summaries=(group_cells,),
        plots=customer_plots.CUSTOMER_GROUPS_PLOTS,
        notes=customer_plots.CUSTOMER_GROUPS_NOTES,
    ),
    "segment_history": StoredAsset(
        SEGMENT_HISTORY,
        checks.SEGMENT_HISTORY_CHECKS,
        summaries=(movement,),
        plots=customer_plots.SEGMENT_HISTORY_PLOTS,
        notes=customer_plots.SEGMENT_HISTORY_NOTES,
    ),
    "customer_value": StoredAsset(
        CUSTOMER_VALUE,
        checks.CUSTOMER_VALUE_CHECKS,
        plots=customer_plots.CUSTOMER_VALUE_PLOTS,
        notes=customer_plots.CUSTOMER_VALUE_NOTES,
    ),
}
"""How each asset of this package is stored, checked and shown."""

ON_DEMAND = {
    "segmentation_by_k": StoredAsset(
        None,
        checks.SEGMENTATION_BY_K_CHECKS,
        plots=plots.SEGMENTATION_BY_K_PLOTS,
        notes=plots.SEGMENTATION_BY_K_NOTES,
    )
}
"""The same for assets that have their own job."""
