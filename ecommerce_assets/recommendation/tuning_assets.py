"""The asset `als_tuning`, which has its own job, and `tuned`, with which als_model takes its parameters."""

from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.backtest import MAX_CUTOFFS
from ecommerce_assets.recommendation.parameters import ListParameters
from ecommerce_assets.recommendation.resources import EvaluationLimits
from ecommerce_assets.recommendation.tuning import in_words, tune
from ecommerce_assets.recommendation.tuning_document import (
    ALS_TUNING_PLOTS,
    TUNING_CHECKS,
    describe_tuning,
    trials_table,
)
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.storage.display import Note
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.lake import VersionNotFoundError
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset

COMMAND = "dagster job execute -m ecommerce_assets.definitions -j als_tuning"

ALS_TUNING = StoredAsset(
    None,
    TUNING_CHECKS,
    plots=ALS_TUNING_PLOTS,
    notes=(Note("trials", lambda context: trials_table(context.document)),),
)


class TuningConfig(dg.Config):
    """Config of als_tuning."""

    trials: int = Field(30, ge=1, description="Number of trials; the first one has the default parameters.")
    timeout_seconds: int | None = Field(None, ge=1, description="No trial begins after this time; unset: no limit.")
    seed: int = Field(42, description="Seed of the search.")
    cutoffs: int = Field(
        1,
        ge=1,
        le=MAX_CUTOFFS,
        description="Number of validation windows before the cutoff of als_evaluation. A trial's score is its mean "
        "NDCG over them.",
    )


@dg.multi_asset(
    name="tune_als",  # a job and a step cannot share a name, and the job has the asset's
    group_name="recommendation",
    backfill_policy=dg.BackfillPolicy.single_run(),
    outs={
        "als_tuning": dg.AssetOut(
            owners=OWNERS,
            kinds={"spark", "als", "json"},
            code_version="2",
            io_manager_key="json_io_manager",
            description="Search for the rank, regParam, alpha, nonnegative and halfLife with the highest NDCG, on a "
            "holdout before that of als_evaluation. als_model with params: tuned uses the best trial.",
        )
    },
)
def als_tuning(
    context: dg.AssetExecutionContext,
    config: TuningConfig,
    newest_versions: NewestVersions,
    evaluation_limits: EvaluationLimits,
    cleaned_events: DataFrame,
) -> Artifact:
    """Searches the parameters of ALS, scored with the same lists and segments as in als_evaluation."""
    promoted = newest_versions.promoted(context)
    segmentation = SegmentationParameters.of(promoted.of("segmentation_model"))
    lists = ListParameters.of(promoted.of("recommendations"))
    exclude, k = lists.exclude, lists.k
    tuning = tune(cleaned_events, segmentation, exclude, k, **config.model_dump(), log=context.log.info)
    document = describe_tuning(tuning)
    if document["params"]:
        context.log.info(f"Best: trial {document['trial']}, {in_words(document['params'])}.")
    parameters = {
        **config.model_dump(),
        "k": k,
        "exclude": str(exclude),
        "segmentation": segmentation.as_dict(),
        "min_holdout_users": evaluation_limits.min_holdout_users,
    }
    return Artifact(document, parameters, {name: value for name, value in document.items() if name != "trials"})


def tuned(
    context: dg.AssetExecutionContext, newest_versions: NewestVersions, parameters: AlsParameters
) -> tuple[AlsParameters, dict[str, Any]]:
    """Returns the parameters with those of the newest als_tuning's best trial, and its version and trial to record.

    Raises VersionNotFoundError if there is no version of als_tuning.
    """
    try:
        version, document = newest_versions.document(context, "als_tuning")
    except VersionNotFoundError as error:
        raise VersionNotFoundError(f"als_model is configured with params=tuned. {error} Run: {COMMAND}") from None
    chosen = AlsParameters.of({**parameters.as_dict(), **document["params"]})
    context.log.info(
        f"als_model is trained with trial {document['trial']} of als_tuning {version.version}: "
        f"{in_words(document['params'])}. Values of these parameters in the config are ignored."
    )
    return chosen, {"tuned_by": {"version": version.version, "trial": document["trial"]}}
