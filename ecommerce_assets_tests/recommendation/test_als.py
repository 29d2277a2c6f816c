"""The fit of ALS: its factors, that it repeats itself, that plain PySpark reads it, and the choice of the engine."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.als import choose_engine, fit_als, log_iterations
from ecommerce_assets.recommendation.als_model import FittedModel, SavedModel, as_factors, as_spark_model
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.local_als import Factors, objective
from ecommerce_assets.spark import engine as engines
from ecommerce_assets.spark.connect import spark_path
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.stored_table import StoredTable

SMALL = AlsParameters(rank=3, maxIter=2)


def by_number(factors: Factors) -> dict[int, npt.NDArray[np.float32]]:
    return dict(zip(factors.indices.tolist(), factors.vectors, strict=True))


def of_spark(frame: DataFrame) -> Factors:
    return as_factors(frame.toArrow())


def same(one: Factors, two: Factors) -> bool:
    return one.indices.tolist() == two.indices.tolist() and one.vectors.tolist() == two.vectors.tolist()


def pairs() -> list[tuple[int, int, float]]:
    """Twelve users and ten products; the last two products have the same users and ratings."""
    rng = np.random.default_rng(0)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(12) for p in range(8) if rng.random() < 0.5]
    return drawn + [(u, p, 4.0) for u in (1, 5, 7) for p in (8, 9)]


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> StoredTable:
    return StoredTable(spark.createDataFrame(pairs(), "user_idx int, product_idx int, rating double"))


@pytest.fixture(scope="module", params=[Engine.local, Engine.mllib])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


@pytest.fixture(scope="module")
def model(interactions: StoredTable, engine: Engine) -> FittedModel:
    return fit_als(interactions, SMALL, engine)


def test_default_parameters_are_those_of_the_specification() -> None:
    assert AlsParameters().spark_params() == {
        "rank": 50,
        "maxIter": 15,
        "regParam": 0.1,
        "alpha": 1.0,
        "nonnegative": True,
        "seed": 42,
    }


def test_every_user_and_product_has_nonnegative_factors(model: FittedModel) -> None:
    users, items = by_number(model.users), by_number(model.products)
    assert sorted(users) == list(range(12))
    assert sorted(items) == list(range(10))
    for vector in (*users.values(), *items.values()):
        assert vector.shape == (3,)
        assert (vector >= 0).all()
    assert any(vector.any() for vector in items.values())


def test_products_with_the_same_users_have_equal_factors(model: FittedModel) -> None:
    # Such ties are real, and recommend breaks them by product_id.
    items = by_number(model.products)
    assert items[8].tolist() == items[9].tolist()


def test_shuffled_input_gives_the_same_factors(
    spark: SparkSession, model: FittedModel, interactions: StoredTable, engine: Engine
) -> None:
    shuffled = StoredTable(spark.createDataFrame(list(reversed(pairs())), interactions.frame.schema).repartition(5))
    other = fit_als(shuffled, SMALL, engine)
    for expected, found in ((model.users, other.users), (model.products, other.products)):
        assert found.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(found.vectors, expected.vectors, rtol=0, atol=1e-5)


@pytest.mark.spark_only
def test_saved_model_loads_in_plain_pyspark(spark: SparkSession, tmp_path: Path, model: FittedModel) -> None:
    path = str(tmp_path / "model-[1]")
    model.save(path)
    loaded = ALSModel.load(spark_path(path))
    assert loaded.rank == 3
    assert (loaded.getUserCol(), loaded.getItemCol()) == ("user_idx", "product_idx")
    assert (loaded.getPredictionCol(), loaded.getColdStartStrategy()) == ("prediction", "drop")
    assert same(of_spark(loaded.userFactors), model.users)
    assert same(of_spark(loaded.itemFactors), model.products)


@pytest.mark.spark_only
def test_plain_pyspark_predicts_and_recommends_what_the_factors_say(
    spark: SparkSession, tmp_path: Path, model: FittedModel
) -> None:
    loaded = as_spark_model(model, str(tmp_path / "model"))
    asked = spark.createDataFrame([(u, p) for u in range(12) for p in range(10)], "user_idx int, product_idx int")
    predicted = np.zeros((12, 10))
    for row in loaded.transform(asked).collect():
        predicted[row["user_idx"], row["product_idx"]] = row["prediction"]
    expected = model.users.vectors @ model.products.vectors.T
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-5)
    lists = {row["user_idx"]: row["recommendations"] for row in loaded.recommendForAllUsers(2).collect()}
    assert sorted(lists) == list(range(12))
    for user, best in lists.items():
        np.testing.assert_allclose([r["rating"] for r in best], np.sort(expected[user])[:-3:-1], rtol=0, atol=1e-5)


def test_saved_model_is_read_without_spark(spark: SparkSession, tmp_path: Path, model: FittedModel) -> None:
    model.save(str(tmp_path / "model-[1]"))
    saved = SavedModel(Folder(str(tmp_path / "model-[1]")))
    assert same(saved.users, model.users)
    assert same(saved.products, model.products)
    assert same(of_spark(saved.user_frame(spark)), model.users)


def test_both_engines_describe_their_factors_alike(model: FittedModel) -> None:
    assert model.describe() == {"users": 12, "products": 10, "vectors_not_finite": 0, "vectors_negative": 0}


@pytest.mark.spark_only
def test_unknown_pairs_are_dropped_from_predictions(spark: SparkSession, tmp_path: Path, model: FittedModel) -> None:
    asked = spark.createDataFrame([(0, 0), (0, 99), (99, 0)], "user_idx int, product_idx int")
    found = as_spark_model(model, str(tmp_path / "model")).transform(asked).collect()
    assert [(row["user_idx"], row["product_idx"]) for row in found] == [(0, 0)]


def test_no_interactions_are_an_error_that_names_the_table(interactions: StoredTable, engine: Engine) -> None:
    with pytest.raises(ValueError, match="interaction_data has no rows"):
        fit_als(StoredTable(interactions.frame.limit(0)), SMALL, engine)


def test_one_interaction_is_enough(spark: SparkSession, engine: Engine) -> None:
    one = StoredTable(spark.createDataFrame([(0, 0, 1.0)], "user_idx int, product_idx int, rating double"))
    assert fit_als(one, SMALL, engine).products.indices.tolist() == [0]


@pytest.mark.spark_only
def test_both_engines_save_the_same_layout(tmp_path: Path, interactions: StoredTable) -> None:
    for engine in (Engine.local, Engine.mllib):
        fit_als(interactions, SMALL, engine).save(str(tmp_path / engine))
    local, mllib = (ALSModel.load(str(tmp_path / engine)) for engine in (Engine.local, Engine.mllib))

    def described(model: ALSModel) -> dict[str, object]:
        return {param.name: value for param, value in model.extractParamMap().items()}

    def document(engine: Engine) -> dict[str, object]:
        [file] = (tmp_path / engine / "metadata").glob("part-*")
        ignored = {"timestamp", "uid", "paramMap"}
        return {name: value for name, value in json.loads(file.read_text()).items() if name not in ignored}

    assert described(local) == described(mllib)
    assert document(Engine.local) == document(Engine.mllib)
    for one, two in ((local.userFactors, mllib.userFactors), (local.itemFactors, mllib.itemFactors)):
        assert one.schema == two.schema


@pytest.mark.parametrize("nonnegative", [True, False])
def test_local_ends_no_higher_than_mllib(spark: SparkSession, nonnegative: bool) -> None:
    rng = np.random.default_rng(3)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(150) for p in range(80) if rng.random() < 0.1]
    table = StoredTable(spark.createDataFrame(drawn, "user_idx int, product_idx int, rating double"))
    arrays = tuple(np.array(part) for part in zip(*drawn, strict=True))
    parameters = AlsParameters(rank=8, maxIter=10, nonnegative=nonnegative)
    ends = {}
    for engine in (Engine.local, Engine.mllib):
        model = fit_als(table, parameters, engine)
        sides = model.users, model.products
        ends[engine] = objective(arrays, *sides, parameters.regParam, parameters.alpha)  # type: ignore[arg-type]
    assert ends[Engine.local] <= 1.005 * ends[Engine.mllib]


def test_the_local_engine_reports_each_iteration(interactions: StoredTable) -> None:
    reported: list[tuple[int, float]] = []
    lines: list[str] = []
    fit_als(interactions, SMALL, Engine.local, lambda done, objective: reported.append((done, objective)))
    fit_als(interactions, SMALL, Engine.local, log_iterations(lines.append, "als_model", SMALL))
    assert [done for done, _ in reported] == [1, 2]
    assert reported[1][1] < reported[0][1]
    assert "2 of 2" in lines[-1]
    assert f"{reported[1][1]:,.0f}" in lines[-1]


def test_the_configured_engine_is_chosen(interactions: StoredTable) -> None:
    for engine in (Engine.local, Engine.mllib):
        choice = choose_engine(interactions, SMALL, engine)
        assert choice.engine == engine
        assert f"{engine}" in choice.reason


@pytest.mark.spark_only
def test_auto_is_local_where_the_pairs_fit_in_memory(
    interactions: StoredTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, rows = len(pairs()), 12 + 10
    needed = 64 * count + rows * 3 * 4 * 6
    for free, engine in ((2 * needed, Engine.local), (2 * needed - 2, Engine.mllib)):
        monkeypatch.setattr(engines, "free_memory", lambda free=free: free)
        choice = choose_engine(interactions, SMALL)
        assert choice.engine == engine
        assert f"{engine}" in choice.reason
        assert f"{count} pairs" in choice.reason
