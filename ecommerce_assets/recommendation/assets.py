"""The assets of the recommendation group, their settings and how they are stored: `ASSETS`, `CATALOG`.

Other modules compute them: indices.py, interactions.py, als.py, item_neighbours.py, evaluation.py, blend.py,
product_eligibility.py, recommend.py, similar.py and product_pairs.py.
"""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame

from ecommerce_assets.owners import OWNERS
from ecommerce_assets.recommendation import catalog, checks, notes
from ecommerce_assets.recommendation.als import choose_engine, fit_als, log_iterations
from ecommerce_assets.recommendation.als_model import ALS_MODEL_PARTS, SavedModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters, ParamsFrom
from ecommerce_assets.recommendation.backtest_assets import BACKTEST, backtest_asset
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.catalog import ProductCatalog
from ecommerce_assets.recommendation.catalog_assets import PRODUCT_CATALOG, READER, product_catalog
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION, SCORED_BY, evaluate
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX, build_index
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, build_interactions
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS, NEIGHBOURS
from ecommerce_assets.recommendation.item_neighbours import item_neighbours as find_item_neighbours
from ecommerce_assets.recommendation.lists import LONGEST_LIST, Ranker
from ecommerce_assets.recommendation.parameters import ListParameters, Parameters, in_words
from ecommerce_assets.recommendation.plots import ALS_EVALUATION_PLOTS, ALS_MODEL_PLOTS
from ecommerce_assets.recommendation.previews import list_preview
from ecommerce_assets.recommendation.product_eligibility import PRODUCT_ELIGIBILITY
from ecommerce_assets.recommendation.product_eligibility import product_eligibility as decide_eligibility
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS, PairParameters
from ecommerce_assets.recommendation.product_pairs import product_pairs as find_product_pairs
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS, products_shown, recommend
from ecommerce_assets.recommendation.resources import EvaluationLimits
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.recommendation.similar import similar_products as find_similar_products
from ecommerce_assets.recommendation.systems import PUBLISHED
from ecommerce_assets.recommendation.tuning_assets import ALS_TUNING, als_tuning, tuned
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.inputs import NewestVersions, given, promoted_field
from ecommerce_assets.storage.io_managers import AS_READ_BY
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.promoted import read_promoted
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets.storage.version import EXPERIMENT, Version

GROUP = "recommendation"
COMMON: dict[str, Any] = {
    "group_name": GROUP,
    "owners": OWNERS,
    "code_version": "1",
    "backfill_policy": dg.BackfillPolicy.single_run(),
}
# Lists are made from the versions that blend_model was made from: a model that als_evaluation blocked, or has not
# evaluated yet, is not read.
AS_EVALUATED = dg.AssetIn(metadata={AS_READ_BY: "blend_model"})
EVALUATED = ("als_evaluation", "als_model", "interaction_data", "user_index", "product_index", "segmented_users")

PLOTTED = ("ndcg", "recall", "hit_rate", "coverage")
"""Metrics of the published lists that the UI plots over time."""


class AlsConfig(dg.Config):
    """Parameters of ALS, with Spark's names."""

    params: ParamsFrom = Field(
        ParamsFrom.configured,
        description="configured: the values below; tuned: rank, regParam, alpha, nonnegative and halfLife of the best "
        "trial of the newest als_tuning.",
    )
    rank: int | None = promoted_field(AlsParameters.rank, "Number of factors of each user and each product.", ge=1)
    maxIter: int | None = promoted_field(AlsParameters.maxIter, "Number of iterations.", ge=1)
    regParam: float | None = promoted_field(
        AlsParameters.regParam, "Regularisation, scaled by each row's number of ratings.", ge=0
    )
    alpha: float | None = promoted_field(
        AlsParameters.alpha, "The confidence in a preference is 1 + alpha * rating.", ge=0
    )
    nonnegative: bool | None = promoted_field(AlsParameters.nonnegative, "Constrain all factors to be nonnegative.")
    seed: int | None = promoted_field(AlsParameters.seed, "Seed of the initial factors.")
    halfLife: float | None = promoted_field(
        0,
        "Days in which a rating loses half of its weight, counted back from the latest interaction; 0: old ratings "
        "count as much as new ones.",
        ge=0,
    )
    engine: Engine = Field(
        Engine.auto,
        description="local: this machine, without Spark; mllib: Spark; auto: local if Spark runs on this machine "
        "and the pairs fit in its memory.",
    )


class ListConfig(dg.Config):
    """Parameters of the evaluated lists; recommendations use the promoted values."""

    k: int | None = promoted_field(
        ListParameters.k, f"Length of each list, at most {LONGEST_LIST}.", ge=1, le=LONGEST_LIST
    )
    exclude: Exclude | None = promoted_field(
        ListParameters.exclude,
        "Products that are not recommended; purchased: products that the user bought; seen: all products of the "
        "user's history; none: no products.",
    )
    ranker: Ranker | None = promoted_field(
        ListParameters.ranker,
        "blend: candidates of all recommenders, ranked by a regression trained on what users did next; als: ALS, "
        "completed with popular products.",
    )


class SimilarConfig(dg.Config):
    """Parameters of similar_products."""

    k: int = Field(10, ge=1, le=NEIGHBOURS, description=f"Length of each list, at most {NEIGHBOURS}.")


class PairsConfig(dg.Config):
    """Parameters of product_pairs."""

    k: int = Field(PairParameters.k, ge=1, description="Length of each list.")
    window_days: int = Field(
        PairParameters.window_days,
        ge=1,
        description="Maximum gap in days between events of one basket, for events without a session.",
    )
    min_baskets: int = Field(
        PairParameters.min_baskets, ge=1, description="Minimum number of baskets with both products of a pair."
    )


class NeighboursConfig(dg.Config):
    """Parameters of item_neighbours."""

    engine: Engine = Field(
        Engine.auto,
        description="local: in this process; mllib: in Spark; auto: local if Spark runs on this machine and the "
        "pairs fit in its memory.",
    )


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def user_index(cleaned_events: DataFrame) -> Artifact:
    """A dense index from 0 for every user, most events first."""
    return Artifact(build_index(cleaned_events, "user_id", "user_idx"))


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def product_index(cleaned_events: DataFrame) -> Artifact:
    """A dense index from 0 for every product, most events first."""
    return Artifact(build_index(cleaned_events, "product_id", "product_idx"))


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def interaction_data(cleaned_events: DataFrame, user_index: DataFrame, product_index: DataFrame) -> Artifact:
    """One rating per user and product, up to 10: the weighted sum of views, carts and purchases."""
    return Artifact(build_interactions(cleaned_events, user_index, product_index))


@dg.asset(
    kinds={"spark", "als"},
    io_manager_key="model_io_manager",
    **COMMON,
)
def als_model(
    context: dg.AssetExecutionContext,
    config: AlsConfig,
    newest_versions: NewestVersions,
    interaction_data: StoredTable,
) -> Artifact:
    """Implicit-feedback ALS, trained on all interactions. `ALSModel.load` reads the folder `model`."""
    promoted = newest_versions.promoted(context).of("als_model")
    parameters = AlsParameters.of({**promoted, **given(config)})
    tuned_by: dict[str, Any] = {}
    if config.params == ParamsFrom.tuned:
        parameters, tuned_by = tuned(context, newest_versions, parameters)
    choice = choose_engine(interaction_data, parameters, config.engine)
    context.log.info(choice.reason)
    objectives: list[float] = []
    log = log_iterations(context.log.info, "als_model", parameters)

    def after_iteration(done: int, objective: float) -> None:
        objectives.append(objective)
        log(done, objective)

    model = fit_als(interaction_data, parameters, choice.engine, after_iteration)
    results = {**model.describe(), "engine_reason": choice.reason}
    if objectives:
        results["objective"] = objectives
    columns = ["user_idx", "product_idx", "rating"]
    if parameters.halfLife is not None:
        columns.append("last_interaction_at")
    sources = [(interaction_data.frame, name) for name in columns]
    id_sources = {"userFactors.id": sources[:1], "itemFactors.id": sources[1:2]}
    made_from = {name: id_sources.get(name, sources) for name in ALS_MODEL_PARTS}
    used = {**parameters.as_dict(), "engine": choice.engine.value, **tuned_by}
    numbers = {"last objective": objectives[-1]} if objectives else {}
    return Artifact(model, used, results, numbers=numbers, made_from=made_from)


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def item_neighbours(
    context: dg.AssetExecutionContext,
    config: NeighboursConfig,
    interaction_data: StoredTable,
    product_index: StoredTable,
) -> Artifact:
    """For each product the 100 most similar products, by the Jaccard similarity of their users."""
    choice = choose_engine(interaction_data, AlsParameters(), config.engine)
    context.log.info(choice.reason)
    rows, made_from = find_item_neighbours(interaction_data, product_index, choice.engine)
    return Artifact(rows, {"engine": choice.engine.value}, made_from=made_from)


@dg.asset(
    kinds={"spark", "parquet"},
    **{**COMMON, "code_version": "4"},
)
def als_evaluation(
    context: dg.AssetExecutionContext,
    config: ListConfig,
    newest_versions: NewestVersions,
    evaluation_limits: EvaluationLimits,
    cleaned_events: DataFrame,
    product_features: StoredTable,
    als_model: Version,
    segmented_users: Version,
) -> Artifact:
    """Metrics of the published lists, ALS and the baselines on a temporal holdout, and the rmse of ALS."""
    promoted = newest_versions.promoted(context)
    promoted_parameters = Parameters.of(promoted.values)
    parameters = Parameters(
        SegmentationParameters.of(segmented_users.parameters),
        AlsParameters.of(als_model.parameters),
        ListParameters.of({**promoted.of("recommendations"), **given(config)}),
    )
    engine = Engine(als_model.parameters.get("engine", Engine.auto))
    changes = parameters.changes(promoted_parameters)
    if changes:
        context.log.info(f"This is an experiment, compared with the promoted parameters: {in_words(changes)}.")
    evaluation = evaluate(
        cleaned_events, product_features, parameters, engine, context.log.info, promoted_parameters if changes else None
    )
    if "holdout" in evaluation.results:
        context.log.warning(f"No ranking metrics: {evaluation.results['holdout']}.")
    used = {
        **parameters.recommendations.as_dict(),
        "als": {**parameters.als_model.as_dict(), "engine": engine.value},
        "segmentation": parameters.segmentation_model.as_dict(),
        "min_holdout_users": evaluation_limits.min_holdout_users,
        "max_quality_loss": evaluation_limits.max_quality_loss,
        EXPERIMENT: bool(changes),
    }
    metrics = evaluation.results.get("metrics", {})
    numbers = {name: float(metrics[name][PUBLISHED][0]) for name in PLOTTED if metrics.get(name, {}).get(PUBLISHED)}
    sources = [(cleaned_events, name) for name in SCORED_BY]
    made_from = {column.name: sources for column in ALS_EVALUATION.columns if not column.constant}
    return Artifact(evaluation.table(), used, evaluation.results, numbers=numbers, made_from=made_from)


@dg.asset(kinds={"json"}, io_manager_key="json_io_manager", **COMMON)
def blend_model(als_evaluation: Version) -> Artifact:
    """Weights that rank the candidates of all recommenders, trained on what users did after the cutoff."""
    parameters = Parameters.of_evaluation(als_evaluation.parameters).as_dict()
    document = als_evaluation.stats.results.get("blend") or {**Blend().document(), "training_users": 0}
    return Artifact(dict(document), parameters, {"training_users": document["training_users"]})


def published_blend(lake: Lake, run_id: str) -> Version:
    """Returns the version of blend_model that the next lists are made with, and the models and indices behind it.

    It is the newest version with the promoted parameters, else the version of the published lists, else the newest.
    """
    promoted = Parameters.of(read_promoted(lake).values)
    versions = list(lake.undamaged("blend_model", run_id))
    lists = lake.latest_or_none("recommendations")
    published = lists.input_version("blend_model") if lists else None
    candidates = (
        *(version for version in versions if Parameters.of(version.parameters) == promoted),
        *(version for version in versions if version.version == published),
    )
    return candidates[0] if candidates else lake.latest("blend_model", run_id)


@dg.asset(
    kinds={"duckdb", "parquet"},
    ins={PRODUCT_CATALOG: dg.AssetIn(input_manager_key=READER)},
    **COMMON,
)
def product_eligibility(
    product_catalog: ProductCatalog, product_index: StoredTable, product_features: StoredTable
) -> Artifact:
    """Whether the catalogue and the shop's rules allow each product in lists, and if not, why."""
    now = datetime.now(UTC)
    parameters = {
        "rules": product_catalog.rules.model_dump(mode="json"),
        "decided_at": now.isoformat(timespec="seconds"),
    }
    rows, made_from = decide_eligibility(product_catalog, product_index, product_features, now)
    return Artifact(rows, parameters, made_from=made_from)


@dg.asset(
    kinds={"spark", "parquet"},
    ins=dict.fromkeys(EVALUATED, AS_EVALUATED),
    **{**COMMON, "code_version": "4"},
)
def recommendations(
    context: dg.AssetExecutionContext,
    newest_versions: NewestVersions,
    als_model: Folder,
    als_evaluation: Version,
    blend_model: dict[str, Any],
    item_neighbours: StoredTable,
    interaction_data: StoredTable,
    user_index: StoredTable,
    product_index: StoredTable,
    segmented_users: StoredTable,
    product_features: StoredTable,
    product_eligibility: StoredTable,
) -> Artifact:
    """The top products of every user (10 by default): ranked candidates of all recommenders, then popular products."""
    parameters = Parameters.of_evaluation(als_evaluation.parameters)
    evaluated = Parameters.of(newest_versions.parameters(context, "blend_model"))
    if changes := evaluated.changes(parameters):
        context.log.warning(
            f"The newest evaluation is not published, because its parameters are not promoted: {in_words(changes)}. To "
            "publish it, run: ecommerce-assets promote newest"
        )
    elif changes := parameters.changes(Parameters.of(newest_versions.promoted(context).values)):
        context.log.warning(
            f"No evaluation has the promoted parameters yet, so these lists have other parameters: {in_words(changes)}."
        )
    lists = parameters.recommendations
    top, made_from = recommend(
        segmented_users,
        user_index,
        product_index,
        interaction_data,
        SavedModel(als_model),
        item_neighbours,
        product_features,
        Blend.of(blend_model) if lists.ranker == Ranker.blend else None,
        lists.exclude,
        lists.k,
        product_eligibility,
    )
    return Artifact(top, {**lists.as_dict(), **product_eligibility.parameters}, made_from=made_from)


@dg.asset(kinds={"spark", "parquet"}, **{**COMMON, "code_version": "3"})
def similar_products(config: SimilarConfig, item_neighbours: DataFrame, product_eligibility: StoredTable) -> Artifact:
    """For each product its best eligible neighbours (10 by default), with names, categories and brands."""
    return Artifact(find_similar_products(item_neighbours, product_eligibility, config.k), config.model_dump())


@dg.asset(kinds={"spark", "parquet"}, **COMMON)
def product_pairs(config: PairsConfig, cleaned_events: DataFrame, product_eligibility: DataFrame) -> Artifact:
    """For each product the eligible products most often bought, and most often viewed, in the same basket."""
    parameters, eligible = PairParameters(**config.model_dump()), product_eligibility.where("eligible")
    return Artifact(find_product_pairs(cleaned_events, parameters, eligible), config.model_dump())


ASSETS = (
    product_catalog,
    user_index,
    product_index,
    interaction_data,
    als_model,
    item_neighbours,
    als_evaluation,
    blend_model,
    product_eligibility,
    recommendations,
    similar_products,
    product_pairs,
)
ON_DEMAND_ASSETS = (als_tuning, backtest_asset)

CATALOG = {
    "user_index": StoredAsset(USER_INDEX, checks.USER_INDEX_CHECKS),
    "product_index": StoredAsset(PRODUCT_INDEX, checks.PRODUCT_INDEX_CHECKS),
    "interaction_data": StoredAsset(INTERACTION_DATA, checks.INTERACTION_DATA_CHECKS),
    "als_model": StoredAsset(None, checks.ALS_MODEL_CHECKS, ALS_MODEL_PARTS, plots=ALS_MODEL_PLOTS),
    "als_evaluation": StoredAsset(
        ALS_EVALUATION, checks.ALS_EVALUATION_CHECKS, plots=ALS_EVALUATION_PLOTS, notes=notes.ALS_EVALUATION_NOTES
    ),
    "item_neighbours": StoredAsset(ITEM_NEIGHBOURS, checks.ITEM_NEIGHBOURS_CHECKS, preview=list_preview("product_id")),
    "blend_model": StoredAsset(None, checks.BLEND_MODEL_CHECKS, notes=notes.BLEND_MODEL_NOTES, choose=published_blend),
    "product_catalog": StoredAsset(catalog.PRODUCT_CATALOG, folder=catalog.FOLDER),
    "product_eligibility": StoredAsset(
        PRODUCT_ELIGIBILITY, checks.PRODUCT_ELIGIBILITY_CHECKS, notes=notes.PRODUCT_ELIGIBILITY_NOTES
    ),
    "recommendations": StoredAsset(
        RECOMMENDATIONS,
        checks.RECOMMENDATIONS_CHECKS,
        summaries=(products_shown,),
        notes=notes.RECOMMENDATIONS_NOTES,
        preview=list_preview("user_id", "product_id"),
    ),
    "similar_products": StoredAsset(
        SIMILAR_PRODUCTS, checks.SIMILAR_PRODUCTS_CHECKS, preview=list_preview("product_id")
    ),
    "product_pairs": StoredAsset(
        PRODUCT_PAIRS,
        checks.PRODUCT_PAIRS_CHECKS,
        preview=list_preview("product_id", "pair_product_id", names="pair_{}"),
    ),
}
"""How each asset is stored, checked and shown."""

ON_DEMAND = {"als_tuning": ALS_TUNING, "backtest": BACKTEST}
"""How each asset that has its own job is stored, checked and shown."""
