"""The assets of the recommendation group. Each is computed in a file of its own: indices.py, interactions.py, als.py,
evaluation.py, recommend.py, similar.py.

Models come as Any: Dagster looks at the types of inputs when it loads this, and Spark ML takes a second to import.
"""

from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation.als import (
    ALS_MODEL_PARTS,
    AlsParameters,
    Engine,
    ParamsFrom,
    choose_engine,
    describe_factors,
    fit_als,
    log_iterations,
)
from ecommerce_assets.recommendation.evaluation import evaluate
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import build_interactions
from ecommerce_assets.recommendation.recommend import Exclude, recommend
from ecommerce_assets.recommendation.similar import similar_products as find_similar_products
from ecommerce_assets.recommendation.tuning_assets import tuned
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.storage.io_managers import AS_READ_BY
from ecommerce_assets.storage.stored_asset import Artifact
from ecommerce_assets.storage.version import Version

GROUP = "recommendation"
LONGEST_LIST = 248
"""Lists are made as a matrix of users times k: a typing error must not ask for one that no memory holds."""
COMMON: dict[str, Any] = {
    "group_name": GROUP,
    "owners": OWNERS,
    "code_version": "1",
    "backfill_policy": dg.BackfillPolicy.single_run(),
}
# What customers see is made with the model that was judged, and with the indices that number it: a newer model that
# als_evaluation blocked, or has not evaluated yet, is not read.
AS_JUDGED = dg.AssetIn(metadata={AS_READ_BY: "als_evaluation"})
JUDGED_WITH = ("als_model", "interaction_data", "user_index", "product_index")


class AlsConfig(dg.Config):
    """How ALS is trained; Spark's parameter names."""

    params: ParamsFrom = Field(
        ParamsFrom.configured,
        description="configured: as stands here; tuned: rank, regParam, alpha and nonnegative as the newest als_tuning "
        "found them.",
    )
    rank: int = Field(50, ge=1, description="Number of factors of each user and each product.")
    maxIter: int = Field(15, ge=1, description="Number of iterations.")
    regParam: float = Field(0.1, ge=0, description="Regularisation, scaled by each row's number of ratings.")
    alpha: float = Field(1.0, ge=0, description="How much a rating raises the confidence in a preference.")
    nonnegative: bool = Field(True, description="Keep all factors from zero up.")
    seed: int = Field(42, description="Seed of the initial factors.")
    engine: Engine = Field(
        Engine.auto,
        description="local: this machine, without Spark; mllib: Spark; auto: local where Spark runs on this machine "
        "and the pairs fit in its memory.",
    )


class TopConfig(dg.Config):
    """How long the lists are."""

    k: int = Field(10, ge=1, le=LONGEST_LIST, description=f"Length of each list, at most {LONGEST_LIST}.")


class RecommendationConfig(TopConfig):
    """How long the lists are and what they leave out."""

    exclude: Exclude = Field(
        Exclude.purchased, description="purchased: what the user bought; seen: what the user touched; none: nothing."
    )


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def user_index(cleaned_events: DataFrame) -> Artifact:
    """A dense number for every user, most events first."""
    return Artifact(build_index(cleaned_events, "user_id", "user_idx"))


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def product_index(cleaned_events: DataFrame) -> Artifact:
    """A dense number for every product, most events first."""
    return Artifact(build_index(cleaned_events, "product_id", "product_idx"))


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def interaction_data(cleaned_events: DataFrame, user_index: DataFrame, product_index: DataFrame) -> Artifact:
    """How strongly each user is drawn to each product: views, carts and purchases as one rating up to 10."""
    return Artifact(build_interactions(cleaned_events, user_index, product_index))


@dg.asset(
    kinds={"spark", "als"},
    io_manager_key="model_io_manager",
    required_resource_keys={"newest_versions"},
    **COMMON,
)
def als_model(context: dg.AssetExecutionContext, config: AlsConfig, interaction_data: DataFrame) -> Artifact:
    """The recommender: implicit-feedback ALS, trained on all interactions; ALSModel.load reads its folder `model`."""
    parameters = AlsParameters.of(config.model_dump())
    tuned_by: dict[str, Any] = {}
    if config.params == ParamsFrom.tuned:
        parameters, tuned_by = tuned(context, parameters)
    choice = choose_engine(interaction_data, parameters, config.engine)
    context.log.info(choice.reason)
    objectives: list[float] = []
    log = log_iterations(context.log.info, "als_model", parameters)

    def after_iteration(done: int, objective: float) -> None:
        objectives.append(objective)
        log(done, objective)

    model = fit_als(interaction_data, parameters, choice.engine, after_iteration)
    results = {**describe_factors(model), "engine_reason": choice.reason}
    if objectives:
        results["objective"] = objectives
    pairs = [(interaction_data, name) for name in ("user_idx", "product_idx", "rating")]
    origins = {"userFactors.id": pairs[:1], "itemFactors.id": pairs[1:2]}
    made_from = {name: origins.get(name, pairs) for name in ALS_MODEL_PARTS}
    used = {**parameters.as_dict(), "engine": choice.engine.value, **tuned_by}
    return Artifact(model, used, results, made_from=made_from)


@dg.asset(kinds={"spark", "parquet"}, required_resource_keys={"min_holdout_users"}, **{**COMMON, "code_version": "2"})
def als_evaluation(
    context: dg.AssetExecutionContext,
    config: RecommendationConfig,
    cleaned_events: DataFrame,
    als_model: Version,
    segmented_users: Version,
) -> Artifact:
    """How good the recommendations are beside popularity, on what users did after a cut-off; and the rmse."""
    als, segmentation = AlsParameters.of(als_model.parameters), SegmentationParameters(**segmented_users.parameters)
    engine = Engine(als_model.parameters.get("engine", Engine.auto))  # the one that made the model
    found = evaluate(cleaned_events, als, segmentation, config.exclude, config.k, engine, context.log.info)
    if "holdout" in found.results:
        context.log.warning(f"No ranking metrics: {found.results['holdout']}.")
    parameters = {
        **config.model_dump(mode="json"),
        "als": {**als.as_dict(), "engine": engine.value},
        "segmentation": segmentation.as_dict(),
        "min_holdout_users": context.resources.min_holdout_users,
    }
    return Artifact(found.frame(cleaned_events), parameters, found.results)


@dg.asset(
    kinds={"spark", "parquet"},
    ins=dict.fromkeys(JUDGED_WITH, AS_JUDGED),
    **COMMON,
)
def recommendations(
    context: dg.AssetExecutionContext,
    config: RecommendationConfig,
    als_model: Any,
    als_evaluation: Version,
    interaction_data: DataFrame,
    user_index: DataFrame,
    product_index: DataFrame,
    segmented_users: DataFrame,
    product_features: Version,  # noqa: ARG001 - not read, but published with it: it describes what is recommended
) -> Artifact:
    """The top 10 of every user: from the model, or what is popular in the segment and the shop."""
    if als_evaluation.parameters.get("exclude") != config.exclude:
        context.log.warning(
            f"als_evaluation judged lists with exclude={als_evaluation.parameters.get('exclude')}, these are made with "
            f"exclude={config.exclude}: set it for both."
        )
    users = segmented_users.select("user_id", "segment")
    top = recommend(users, user_index, product_index, interaction_data, als_model, config.exclude, config.k)
    return Artifact(top, config.model_dump(mode="json"))


@dg.asset(kinds={"spark", "parquet"}, ins=dict.fromkeys(("als_model", "product_index"), AS_JUDGED), **COMMON)
def similar_products(
    config: TopConfig,
    als_model: Any,
    als_evaluation: Version,  # noqa: ARG001 - not read: it says which model was judged, and a bad one ends here
    product_index: DataFrame,
    product_features: DataFrame,
) -> Artifact:
    """For each product the ten that the same people are drawn to, with category and brand beside the ids."""
    return Artifact(find_similar_products(als_model, product_index, product_features, config.k), config.model_dump())


ASSETS = [
    user_index,
    product_index,
    interaction_data,
    als_model,
    als_evaluation,
    recommendations,
    similar_products,
]
