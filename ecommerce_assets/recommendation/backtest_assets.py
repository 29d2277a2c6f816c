"""The asset `backtest`, which has its own job."""

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.backtest import (
    BACKTEST_CHECKS,
    BACKTEST_NOTES,
    BACKTEST_PLOTS,
    MAX_CUTOFFS,
    MIN_CUTOFFS,
    backtest,
)
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.resources import EvaluationLimits
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.stored_table import StoredTable

BACKTEST = StoredAsset(None, BACKTEST_CHECKS, plots=BACKTEST_PLOTS, notes=BACKTEST_NOTES)


class BacktestConfig(dg.Config):
    """Config of backtest."""

    cutoffs: int = Field(
        4,
        ge=MIN_CUTOFFS,
        le=MAX_CUTOFFS,
        description="Number of cutoffs: the last 40 % of the events are split into this number of windows.",
    )


@dg.multi_asset(
    name="run_backtest",  # a job and a step cannot share a name, and the job has the asset's
    group_name="recommendation",
    backfill_policy=dg.BackfillPolicy.single_run(),
    outs={
        "backtest": dg.AssetOut(
            owners=OWNERS,
            kinds={"spark", "als", "json"},
            code_version="1",
            io_manager_key="json_io_manager",
            description="als_evaluation at several cutoffs with the promoted parameters, which shows whether the "
            "published lists are better than the baselines at each of them.",
        )
    },
)
def backtest_asset(
    context: dg.AssetExecutionContext,
    config: BacktestConfig,
    newest_versions: NewestVersions,
    evaluation_limits: EvaluationLimits,
    cleaned_events: DataFrame,
    product_features: StoredTable,
) -> Artifact:
    """Scores all systems at several cutoffs, with the promoted parameters."""
    parameters = Parameters.of(newest_versions.promoted(context).values)
    engine = Engine(newest_versions.parameters(context, "als_model").get("engine", Engine.auto))
    document = backtest(cleaned_events, product_features, parameters, config.cutoffs, engine, context.log.info)
    used_parameters = {
        **config.model_dump(),
        **parameters.recommendations.as_dict(),
        "als": {**parameters.als_model.as_dict(), "engine": engine.value},
        "segmentation": parameters.segmentation_model.as_dict(),
        "min_holdout_users": evaluation_limits.min_holdout_users,
    }
    return Artifact(document, used_parameters, {name: document[name] for name in ("mean", "best_baseline")})
