"""The assets of the recommendation group. Each is computed in a file of its own: indices.py, interactions.py, als.py,
item_neighbours.py, evaluation.py, blend.py, recommend.py, similar.py.

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
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.evaluation import evaluate
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import build_interactions
from ecommerce_assets.recommendation.item_neighbours import NEIGHBOURS
from ecommerce_assets.recommendation.item_neighbours import item_neighbours as find_item_neighbours
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.recommend import recommend
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
# What customers see is made with the model that was evaluated, with the indices that number it, and with the weights
# that this evaluation found: a newer model that als_evaluation blocked, or has not evaluated yet, is not read.
AS_EVALUATED = dg.AssetIn(metadata={AS_READ_BY: "blend_model"})
EVALUATED = ("als_evaluation", "als_model", "interaction_data", "user_index", "product_index")


class AlsConfig(dg.Config):
    """How ALS is trained; Spark's parameter names."""

    params: ParamsFrom = Field(
        ParamsFrom.configured,
        description="configured: as set here; tuned: rank, regParam, alpha, nonnegative and halfLife of the best trial "
        "of the newest als_tuning.",
    )
    rank: int = Field(50, ge=1, description="Number of factors of each user and each product.")
    maxIter: int = Field(15, ge=1, description="Number of iterations.")
    regParam: float = Field(0.1, ge=0, description="Regularisation, scaled by each row's number of ratings.")
    alpha: float = Field(1.0, ge=0, description="How much a rating raises the confidence in a preference.")
    nonnegative: bool = Field(True, description="Constrain all factors to be nonnegative.")
    seed: int = Field(42, description="Seed of the initial factors.")
    halfLife: float | None = Field(
        None,
        gt=0,
        description="Days in which a rating loses half of its weight, counted back from the latest interaction; unset: "
        "old ratings count as much as new ones.",
    )
    engine: Engine = Field(
        Engine.auto,
        description="local: this machine, without Spark; mllib: Spark; auto: local where Spark runs on this machine "
        "and the pairs fit in its memory.",
    )


class ListConfig(dg.Config):
    """What the lists are made with; als_evaluation and recommendations need the same."""

    k: int = Field(10, ge=1, le=LONGEST_LIST, description=f"Length of each list, at most {LONGEST_LIST}.")
    exclude: Exclude = Field(
        Exclude.purchased,
        description="Products that are not recommended; purchased: what the user bought; seen: every product of the "
        "user's history; none: nothing.",
    )
    ranker: Ranker = Field(
        Ranker.blend,
        description="blend: the candidates of all recommenders, ranked by a regression that was trained on what users "
        "did next; als: ALS, completed with what is popular.",
    )


class SimilarConfig(dg.Config):
    """How long the lists of similar products are."""

    k: int = Field(10, ge=1, le=NEIGHBOURS, description=f"Length of each list, at most {NEIGHBOURS}.")


class NeighboursConfig(dg.Config):
    """Where the neighbours are computed."""

    engine: Engine = Field(
        Engine.auto,
        description="local: in this process; mllib: in Spark; auto: local where Spark runs on this machine and the "
        "pairs fit in its memory.",
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
    columns = ["user_idx", "product_idx", "rating"]
    if parameters.halfLife is not None:
        columns.append("last_interaction_at")
    pairs = [(interaction_data, name) for name in columns]
    origins = {"userFactors.id": pairs[:1], "itemFactors.id": pairs[1:2]}
    made_from = {name: origins.get(name, pairs) for name in ALS_MODEL_PARTS}
    used = {**parameters.as_dict(), "engine": choice.engine.value, **tuned_by}
    return Artifact(model, used, results, made_from=made_from)


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def item_neighbours(
    context: dg.AssetExecutionContext,
    config: NeighboursConfig,
    interaction_data: DataFrame,
    product_index: DataFrame,
) -> Artifact:
    """For each product the 100 products that most of the same users interacted with, by Jaccard similarity."""
    choice = choose_engine(interaction_data, AlsParameters(), config.engine)
    context.log.info(choice.reason)
    return Artifact(
        find_item_neighbours(interaction_data, product_index, choice.engine), {"engine": choice.engine.value}
    )


@dg.asset(kinds={"spark", "parquet"}, required_resource_keys={"min_holdout_users"}, **{**COMMON, "code_version": "3"})
def als_evaluation(
    context: dg.AssetExecutionContext,
    config: ListConfig,
    cleaned_events: DataFrame,
    product_features: DataFrame,
    als_model: Version,
    segmented_users: Version,
) -> Artifact:
    """The published lists, ALS and every simple system, scored on what users did after a cutoff; and the rmse."""
    als, segmentation = AlsParameters.of(als_model.parameters), SegmentationParameters(**segmented_users.parameters)
    engine = Engine(als_model.parameters.get("engine", Engine.auto))  # the one that made the model
    evaluation = evaluate(
        cleaned_events,
        product_features,
        als,
        segmentation,
        config.exclude,
        config.k,
        config.ranker,
        engine,
        context.log.info,
    )
    if "holdout" in evaluation.results:
        context.log.warning(f"No ranking metrics: {evaluation.results['holdout']}.")
    parameters = {
        **config.model_dump(mode="json"),
        "als": {**als.as_dict(), "engine": engine.value},
        "segmentation": segmentation.as_dict(),
        "min_holdout_users": context.resources.min_holdout_users,
    }
    return Artifact(evaluation.frame(cleaned_events), parameters, evaluation.results)


@dg.asset(kinds={"json"}, io_manager_key="json_io_manager", **COMMON)
def blend_model(als_evaluation: Version) -> Artifact:
    """The weights that rank the candidates of all recommenders, trained on what users did after the cutoff."""
    parameters = {name: als_evaluation.parameters.get(name) for name in ("exclude", "ranker")}
    document = als_evaluation.stats.results.get("blend") or {**Blend().document(), "training_users": 0}
    return Artifact(dict(document), parameters, {"training_users": document["training_users"]})


@dg.asset(kinds={"spark", "parquet"}, ins=dict.fromkeys(EVALUATED, AS_EVALUATED), **{**COMMON, "code_version": "2"})
def recommendations(
    context: dg.AssetExecutionContext,
    config: ListConfig,
    als_model: Any,
    als_evaluation: Version,
    blend_model: dict[str, Any],
    item_neighbours: DataFrame,
    interaction_data: DataFrame,
    user_index: DataFrame,
    product_index: DataFrame,
    segmented_users: DataFrame,
    product_features: DataFrame,
) -> Artifact:
    """The top 10 of every user: the candidates of all recommenders, ranked, or what is popular."""
    for name in ("exclude", "ranker"):
        evaluated, configured = als_evaluation.parameters.get(name), getattr(config, name)
        if evaluated != configured:
            context.log.warning(
                f"als_evaluation scored lists with {name}={evaluated}, these are made with {name}={configured}: set it "
                "for both."
            )
    top = recommend(
        segmented_users.select("user_id", "segment"),
        user_index,
        product_index,
        interaction_data,
        als_model,
        item_neighbours,
        product_features,
        Blend.of(blend_model) if config.ranker == Ranker.blend else None,
        config.exclude,
        config.k,
    )
    return Artifact(top, config.model_dump(mode="json"))


@dg.asset(kinds={"spark", "parquet"}, **{**COMMON, "code_version": "2"})
def similar_products(config: SimilarConfig, item_neighbours: DataFrame, product_features: DataFrame) -> Artifact:
    """For each product the ten best neighbours, with category and brand beside the ids."""
    return Artifact(find_similar_products(item_neighbours, product_features, config.k), config.model_dump())


ASSETS = [
    user_index,
    product_index,
    interaction_data,
    als_model,
    item_neighbours,
    als_evaluation,
    blend_model,
    recommendations,
    similar_products,
]
