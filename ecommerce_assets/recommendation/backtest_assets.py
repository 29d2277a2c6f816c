"""The asset backtest, which has a job of its own."""

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.als_parameters import AlsParameters, Engine
from ecommerce_assets.recommendation.backtest import FEWEST_CUTOFFS, MOST_CUTOFFS, backtest
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.stored_asset import Artifact

DEFAULT_K = 10


class BacktestConfig(dg.Config):
    """How often the systems are evaluated."""

    cutoffs: int = Field(
        4,
        ge=FEWEST_CUTOFFS,
        le=MOST_CUTOFFS,
        description="Number of cutoffs; the last 40 % of the events are split into as many windows.",
    )


@dg.multi_asset(
    name="run_backtest",  # a job and a step cannot share a name, and the job has the asset's
    group_name="recommendation",
    backfill_policy=dg.BackfillPolicy.single_run(),
    required_resource_keys={"newest_versions", "min_holdout_users"},
    outs={
        "backtest": dg.AssetOut(
            owners=OWNERS,
            kinds={"spark", "als", "json"},
            code_version="1",
            io_manager_key="json_io_manager",
            description="The evaluation of als_evaluation at several cutoffs, with the parameters of the newest "
            "als_model: whether the published lists are better than the baselines again and again.",
        )
    },
)
def backtest_asset(
    context: dg.AssetExecutionContext,
    config: BacktestConfig,
    cleaned_events: DataFrame,
    product_features: DataFrame,
) -> Artifact:
    """Score all systems at several cutoffs, with the settings of the newest als_model and als_evaluation."""
    newest: NewestVersions = context.resources.newest_versions
    # Settings and not data: recorded among the parameters. As inputs they would keep old versions from being removed.
    trained, evaluated, segmented = (
        newest.parameters(context, name) for name in ("als_model", "als_evaluation", "segmented_users")
    )
    als, segmentation = AlsParameters.of(trained), SegmentationParameters(**segmented)
    engine = Engine(trained.get("engine", Engine.auto))
    exclude = Exclude(evaluated.get("exclude", Exclude.purchased))
    ranker, k = Ranker(evaluated.get("ranker", Ranker.blend)), evaluated.get("k", DEFAULT_K)
    document = backtest(
        cleaned_events,
        product_features,
        als,
        segmentation,
        exclude,
        k,
        config.cutoffs,
        ranker,
        engine,
        context.log.info,
    )
    parameters = {
        **config.model_dump(),
        "k": k,
        "exclude": str(exclude),
        "ranker": str(ranker),
        "als": {**als.as_dict(), "engine": engine.value},
        "segmentation": segmentation.as_dict(),
        "min_holdout_users": context.resources.min_holdout_users,
    }
    results = {name: document[name] for name in ("mean", "best_baseline")}
    return Artifact(document, parameters, results)
