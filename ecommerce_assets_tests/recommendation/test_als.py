"""The fit of ALS: its factors, that it repeats itself, that plain PySpark reads it, and the choice of the engine."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.recommendation import als
from ecommerce_assets.recommendation.als import AlsParameters, Engine, choose_engine, fit_als, log_iterations
from ecommerce_assets.recommendation.local_als import Factors, objective

SMALL = AlsParameters(rank=3, maxIter=2)


def factors(frame: DataFrame) -> dict[int, npt.NDArray[np.float64]]:
    return {row["id"]: np.array(row["features"]) for row in frame.collect()}


def pairs() -> list[tuple[int, int, float]]:
    """Twelve users and ten products; the last two products have the same users and ratings."""
    rng = np.random.default_rng(0)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(12) for p in range(8) if rng.random() < 0.5]
    return drawn + [(u, p, 4.0) for u in (1, 5, 7) for p in (8, 9)]


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(pairs(), "user_idx int, product_idx int, rating double")


@pytest.fixture(scope="module", params=[Engine.local, Engine.mllib])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


@pytest.fixture(scope="module")
def model(interactions: DataFrame, engine: Engine) -> ALSModel:
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


def test_every_user_and_product_has_nonnegative_factors(model: ALSModel) -> None:
    users, items = factors(model.userFactors), factors(model.itemFactors)
    assert sorted(users) == list(range(12))
    assert sorted(items) == list(range(10))
    for vector in (*users.values(), *items.values()):
        assert vector.shape == (3,)
        assert (vector >= 0).all()
    assert any(vector.any() for vector in items.values())


def test_products_with_the_same_users_have_equal_factors(model: ALSModel) -> None:
    # Such ties are real, and recommend breaks them by product_id.
    items = factors(model.itemFactors)
    assert items[8].tolist() == items[9].tolist()


def test_shuffled_input_gives_the_same_factors(
    spark: SparkSession, model: ALSModel, interactions: DataFrame, engine: Engine
) -> None:
    shuffled = spark.createDataFrame(list(reversed(pairs())), interactions.schema).repartition(5)
    other = fit_als(shuffled, SMALL, engine)
    for one, two in ((model.userFactors, other.userFactors), (model.itemFactors, other.itemFactors)):
        expected, found = factors(one), factors(two)
        assert sorted(found) == sorted(expected)
        for number, vector in expected.items():
            np.testing.assert_allclose(found[number], vector, rtol=0, atol=1e-5)


def test_saved_model_loads_in_plain_pyspark(tmp_path: Path, model: ALSModel) -> None:
    model.write().save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    assert loaded.rank == 3
    assert (loaded.getUserCol(), loaded.getItemCol()) == ("user_idx", "product_idx")
    assert (loaded.getPredictionCol(), loaded.getColdStartStrategy()) == ("prediction", "drop")
    asked = loaded.userFactors.select(F.col("id").alias("user_idx")).withColumn("product_idx", F.lit(0))
    assert loaded.transform(asked).count() == 12
    for recommender in (model, loaded):
        assert recommender.recommendForAllUsers(2).count() == loaded.userFactors.count()
    for one, two in ((model.userFactors, loaded.userFactors), (model.itemFactors, loaded.itemFactors)):
        assert {n: v.tolist() for n, v in factors(two).items()} == {n: v.tolist() for n, v in factors(one).items()}


def test_unknown_pairs_are_dropped_from_predictions(spark: SparkSession, model: ALSModel) -> None:
    asked = spark.createDataFrame([(0, 0), (0, 99), (99, 0)], "user_idx int, product_idx int")
    assert [(row["user_idx"], row["product_idx"]) for row in model.transform(asked).collect()] == [(0, 0)]


def test_no_interactions_are_an_error_that_names_the_table(interactions: DataFrame, engine: Engine) -> None:
    with pytest.raises(ValueError, match="interaction_data has no rows"):
        fit_als(interactions.limit(0), SMALL, engine)


def test_one_interaction_is_enough(spark: SparkSession, engine: Engine) -> None:
    one = spark.createDataFrame([(0, 0, 1.0)], "user_idx int, product_idx int, rating double")
    assert list(factors(fit_als(one, SMALL, engine).itemFactors)) == [0]


def test_both_engines_make_the_same_kind_of_model(spark: SparkSession, interactions: DataFrame) -> None:
    local, mllib = (fit_als(interactions, SMALL, engine) for engine in (Engine.local, Engine.mllib))

    def described(model: ALSModel) -> dict[str, object]:
        return {param.name: value for param, value in model.extractParamMap().items()}

    assert described(local) == described(mllib)
    for one, two in ((local.userFactors, mllib.userFactors), (local.itemFactors, mllib.itemFactors)):
        assert one.schema == two.schema


def as_factors(frame: DataFrame) -> Factors:
    found = sorted(factors(frame).items())
    return Factors(np.array([n for n, _ in found], np.int32), np.array([v for _, v in found], np.float32))


@pytest.mark.parametrize("nonnegative", [True, False])
def test_local_ends_no_higher_than_mllib(spark: SparkSession, nonnegative: bool) -> None:
    rng = np.random.default_rng(3)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(150) for p in range(80) if rng.random() < 0.1]
    frame = spark.createDataFrame(drawn, "user_idx int, product_idx int, rating double")
    arrays = tuple(np.array(part) for part in zip(*drawn, strict=True))
    parameters = AlsParameters(rank=8, maxIter=10, nonnegative=nonnegative)
    ends = {}
    for engine in (Engine.local, Engine.mllib):
        model = fit_als(frame, parameters, engine)
        sides = as_factors(model.userFactors), as_factors(model.itemFactors)
        ends[engine] = objective(arrays, *sides, parameters.regParam, parameters.alpha)  # type: ignore[arg-type]
    assert ends[Engine.local] <= 1.005 * ends[Engine.mllib]


def test_the_local_engine_reports_each_iteration(interactions: DataFrame) -> None:
    reported: list[tuple[int, float]] = []
    lines: list[str] = []
    fit_als(interactions, SMALL, Engine.local, lambda done, objective: reported.append((done, objective)))
    fit_als(interactions, SMALL, Engine.local, log_iterations(lines.append, "als_model", SMALL))
    assert [done for done, _ in reported] == [1, 2]
    assert reported[1][1] < reported[0][1]
    assert "2 of 2" in lines[-1]
    assert f"{reported[1][1]:,.0f}" in lines[-1]


def test_the_configured_engine_is_chosen(interactions: DataFrame) -> None:
    for engine in (Engine.local, Engine.mllib):
        choice = choose_engine(interactions, SMALL, engine)
        assert choice.engine == engine
        assert f"{engine}" in choice.reason


def test_auto_is_local_where_the_pairs_fit_in_memory(interactions: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    count, rows = len(pairs()), 12 + 10
    needed = 64 * count + rows * 3 * 4 * 6
    for free, engine in ((2 * needed, Engine.local), (2 * needed - 2, Engine.mllib)):
        monkeypatch.setattr(als, "free_memory", lambda free=free: free)
        choice = choose_engine(interactions, SMALL)
        assert choice.engine == engine
        assert f"{engine}" in choice.reason
        assert f"{count} pairs" in choice.reason


def test_many_pairs_are_collected_in_slices(interactions: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = als.collect_pairs(interactions)
    monkeypatch.setattr(als, "PAIRS_AT_ONCE", 10)
    sliced = als.collect_pairs(interactions)
    assert sorted(sliced.to_pylist(), key=str) == sorted(whole.to_pylist(), key=str)
    assert sliced.schema == whole.schema
    with_more = als.collect_pairs(interactions.selectExpr("*", "user_idx % 2 = 0 as train"), "train").to_pydict()
    assert with_more["train"] == [user % 2 == 0 for user in with_more["user_idx"]]
