"""The asset als_tuning, which a job of its own makes, and how als_model takes its parameters from it.

How candidates are tried stands in tuning.py.
"""

from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.recommendation.tuning import tune
from ecommerce_assets.recommendation.tuning_document import trials_table
from ecommerce_assets.recommendation.tuning_trials import told
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.lake import VersionNotFoundError
from ecommerce_assets.storage.stored_asset import Artifact

COMMAND = "dagster job execute -m ecommerce_assets.definitions -j als_tuning"
DEFAULT_K = 10


class TuningConfig(dg.Config):
    """How long is searched."""

    trials: int = Field(30, ge=1, description="Candidates that are tried; the first two are the default parameters.")
    timeout_seconds: int | None = Field(None, ge=1, description="No further trial begins after so long; unset: none.")
    seed: int = Field(42, description="Seed of the search.")


@dg.multi_asset(
    name="tune_als",  # a job and a step cannot share a name, and the job has the asset's
    group_name="recommendation",
    backfill_policy=dg.BackfillPolicy.single_run(),
    required_resource_keys={"newest_versions", "min_holdout_users"},
    outs={
        "als_tuning": dg.AssetOut(
            owners=OWNERS,
            kinds={"spark", "als", "json"},
            code_version="1",
            io_manager_key="json_io_manager",
            description="Which rank, regParam and alpha serve users best, and whether nonnegative factors pay, on a "
            "holdout before that of als_evaluation. als_model uses it where its config says params: tuned.",
        )
    },
)
def als_tuning(context: dg.AssetExecutionContext, config: TuningConfig, cleaned_events: DataFrame) -> Artifact:
    """Try candidates as `tune` does, with the lists and segments that als_evaluation judges."""
    newest: NewestVersions = context.resources.newest_versions
    # Settings, not data: named among the parameters. As inputs they would keep the model before, and by it the tuning
    # before, from ever being removed.
    judged, segmented = (newest.parameters(context, name) for name in ("als_evaluation", "segmented_users"))
    segmentation = SegmentationParameters(**segmented)
    exclude, k = Exclude(judged.get("exclude", Exclude.purchased)), judged.get("k", DEFAULT_K)
    document = tune(
        cleaned_events,
        segmentation,
        exclude,
        k,
        trials=config.trials,
        timeout_seconds=config.timeout_seconds,
        seed=config.seed,
        say=context.log.info,
    )
    if document["params"]:
        context.log.info(f"Best: trial {document['trial']}, {told(document['params'])}.")
    context.add_output_metadata({"trials": dg.MetadataValue.md(trials_table(document))})
    parameters = {
        **config.model_dump(),
        "k": k,
        "exclude": str(exclude),
        "segmentation": segmentation.as_dict(),
        "min_holdout_users": context.resources.min_holdout_users,
    }
    return Artifact(document, parameters, {name: value for name, value in document.items() if name != "trials"})


def tuned(context: dg.AssetExecutionContext, parameters: AlsParameters) -> tuple[AlsParameters, dict[str, Any]]:
    """The parameters with those that als_tuning found, and from which trial of which version they are.

    Raises VersionNotFoundError where there is no tuning.
    """
    newest: NewestVersions = context.resources.newest_versions
    try:
        version, document = newest.document(context, "als_tuning")
    except VersionNotFoundError as problem:
        raise VersionNotFoundError(
            f"als_model is configured with params=tuned. {problem} The job als_tuning does that: {COMMAND}"
        ) from None
    found = AlsParameters.of({**parameters.as_dict(), **document["params"]})
    context.log.info(
        f"Trained with trial {document['trial']} of als_tuning {version.version}, not with the config: "
        f"{told(document['params'])}."
    )
    return found, {"tuned_by": {"version": version.version, "trial": document["trial"]}}
