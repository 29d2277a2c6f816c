"""The fit of ALS: its factors, that it is reproducible, that plain PySpark loads it, and the choice of the engine."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation import als
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


def by_index(factors: Factors) -> dict[int, npt.NDArray[np.float32]]:
    return dict(zip(factors.indices.tolist(), factors.vectors, strict=True))


def are_equal(one: Factors, other: Factors) -> bool:
    return one.indices.tolist() == other.indices.tolist() and one.vectors.tolist() == other.vectors.tolist()


def pairs() -> list[tuple[int, int, float]]:
    """Twelve users and ten products; the last two products have the same users and ratings."""
    rng = np.random.default_rng(0)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(12) for p in range(8) if rng.random() < 0.5]
    return drawn + [(u, p, 4.0) for u in (1, 5, 7) for p in (8, 9)]


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> StoredTable:
    return StoredTable(spark.createDataFrame(pairs(), "user_idx int, product_idx int, rating double"))


@pytest.fixture(scope="module")
def local_model(interactions: StoredTable) -> FittedModel:
    return fit_als(interactions, SMALL, Engine.local)


@pytest.fixture(scope="module")
def mllib_model(interactions: StoredTable) -> FittedModel:
    return fit_als(interactions, SMALL, Engine.mllib)


@pytest.fixture(scope="module", params=[Engine.local, Engine.mllib])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, engine: Engine) -> Any:
    return request.getfixturevalue(f"{engine}_model")


def test_default_parameters_are_those_of_the_specification() -> None:
    expected = {"rank": 50, "maxIter": 15, "regParam": 0.1, "alpha": 1.0, "nonnegative": True, "seed": 42}
    assert AlsParameters().spark_params() == expected


def test_every_user_and_product_has_nonnegative_factors(model: FittedModel) -> None:
    users, items = by_index(model.users), by_index(model.products)
    assert sorted(users) == list(range(12))
    assert sorted(items) == list(range(10))
    for vector in (*users.values(), *items.values()):
        assert vector.shape == (3,)
        assert (vector >= 0).all()
    assert any(vector.any() for vector in items.values())
    # Products with the same users and ratings tie; recommend breaks such ties by product_id.
    assert items[8].tolist() == items[9].tolist()
    assert model.describe() == {"users": 12, "products": 10, "vectors_not_finite": 0, "vectors_negative": 0}


def test_shuffled_input_gives_the_same_factors(
    spark: SparkSession, model: FittedModel, interactions: StoredTable, engine: Engine
) -> None:
    shuffled = StoredTable(spark.createDataFrame(list(reversed(pairs())), interactions.frame.schema).repartition(5))
    other = fit_als(shuffled, SMALL, engine)
    for expected, actual in ((model.users, other.users), (model.products, other.products)):
        assert actual.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(actual.vectors, expected.vectors, rtol=0, atol=1e-5)


def test_a_saved_model_is_read_without_spark(spark: SparkSession, tmp_path: Path, model: FittedModel) -> None:
    model.save(str(tmp_path / "model-[1]"))
    saved = SavedModel(Folder(str(tmp_path / "model-[1]")))
    assert are_equal(saved.users, model.users)
    assert are_equal(saved.products, model.products)
    assert are_equal(as_factors(saved.user_frame(spark).toArrow()), model.users)


@pytest.mark.spark_only
class TestPlainPySpark:
    def test_loads_both_engines_alike(self, tmp_path: Path, local_model: FittedModel, mllib_model: FittedModel) -> None:
        loaded, metadata = {}, {}
        for engine, model in ((Engine.local, local_model), (Engine.mllib, mllib_model)):
            path = tmp_path / f"{engine}-[1]"
            model.save(str(path))
            loaded[engine] = ALSModel.load(spark_path(str(path)))
            [file] = (path / "metadata").glob("part-*")
            ignored = {"timestamp", "uid", "paramMap"}
            metadata[engine] = {k: v for k, v in json.loads(file.read_text()).items() if k not in ignored}
        local, mllib = loaded[Engine.local], loaded[Engine.mllib]
        assert metadata[Engine.local] == metadata[Engine.mllib]
        for one, other in ((local.userFactors, mllib.userFactors), (local.itemFactors, mllib.itemFactors)):
            assert one.schema == other.schema
        values = [{p.name: value for p, value in each.extractParamMap().items()} for each in (local, mllib)]
        expected = {"userCol": "user_idx", "itemCol": "product_idx", "coldStartStrategy": "drop"}
        assert values[0] == values[1] == values[0] | expected
        assert local.rank == mllib.rank == 3

    def test_predicts_and_recommends_by_the_factors_and_drops_unknown_pairs(
        self, spark: SparkSession, tmp_path: Path, local_model: FittedModel
    ) -> None:
        loaded = as_spark_model(local_model, str(tmp_path / "model"))
        wanted = [(u, p) for u in range(13) for p in range(11)]
        rows = loaded.transform(spark.createDataFrame(wanted, "user_idx int, product_idx int")).collect()
        predicted = {(row["user_idx"], row["product_idx"]): row["prediction"] for row in rows}
        expected = local_model.users.vectors @ local_model.products.vectors.T
        assert predicted == pytest.approx({(u, p): expected[u, p] for u in range(12) for p in range(10)}, abs=1e-5)
        lists: DataFrame = loaded.recommendForAllUsers(2)
        best = {row["user_idx"]: [r["rating"] for r in row["recommendations"]] for row in lists.collect()}
        assert sorted(best) == list(range(12))
        for user, ratings in best.items():
            np.testing.assert_allclose(ratings, np.sort(expected[user])[:-3:-1], rtol=0, atol=1e-5)


def test_no_interactions_are_an_error_that_names_the_table(interactions: StoredTable, engine: Engine) -> None:
    with pytest.raises(ValueError, match="interaction_data has no rows"):
        fit_als(StoredTable(interactions.frame.limit(0)), SMALL, engine)


def test_one_interaction_is_enough(spark: SparkSession) -> None:
    one = StoredTable(spark.createDataFrame([(0, 0, 1.0)], "user_idx int, product_idx int, rating double"))
    assert fit_als(one, SMALL, Engine.local).products.indices.tolist() == [0]


@pytest.mark.parametrize(("nonnegative", "iterations"), [(True, 5), pytest.param(False, 3, marks=pytest.mark.trial)])
def test_the_local_engine_ends_no_higher_than_mllib(spark: SparkSession, nonnegative: bool, iterations: int) -> None:
    rng = np.random.default_rng(3)
    drawn = [(u, p, float(rng.integers(1, 11))) for u in range(150) for p in range(80) if rng.random() < 0.1]
    table = StoredTable(spark.createDataFrame(drawn, "user_idx int, product_idx int, rating double"))
    arrays: Any = tuple(np.array(part) for part in zip(*drawn, strict=True))
    parameters = AlsParameters(rank=8, maxIter=iterations, nonnegative=nonnegative)
    ends = {}
    for engine in (Engine.local, Engine.mllib):
        model = fit_als(table, parameters, engine)
        ends[engine] = objective(arrays, model.users, model.products, parameters.regParam, parameters.alpha)
    assert ends[Engine.local] <= 1.005 * ends[Engine.mllib]


def test_both_engines_fit_the_weighted_ratings(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    rows = [(n % 4, n % 3, 5.0, first + dt.timedelta(days=n)) for n in range(12)]
    schema = "user_idx int, product_idx int, rating double, last_interaction_at timestamp"
    interactions = StoredTable(spark.createDataFrame(rows, schema))
    fitted: dict[str, list[float]] = {}

    def fit_mllib(frame: DataFrame, _: AlsParameters) -> None:
        fitted["mllib"] = [row["rating"] for row in frame.orderBy("last_interaction_at").collect()]

    def fit_local(pairs: Any, *_: Any) -> tuple[None, None]:
        fitted["local"] = pairs.column("rating").to_pylist()
        return None, None

    monkeypatch.setattr(als, "fit_mllib", fit_mllib)
    monkeypatch.setattr(als, "fit_local", fit_local)
    for engine in (Engine.local, Engine.mllib):
        fit_als(interactions, AlsParameters(halfLife=2.0), engine)
    expected = [5 * 0.5 ** ((11 - n) / 2) for n in range(12)]
    assert fitted["mllib"] == pytest.approx(expected)
    assert sorted(fitted["local"]) == pytest.approx(expected)


def test_the_local_engine_reports_each_iteration(interactions: StoredTable) -> None:
    reported: list[tuple[int, float]] = []
    lines: list[str] = []
    log = log_iterations(lines.append, "als_model", SMALL)

    def after_iteration(done: int, objective: float) -> None:
        reported.append((done, objective))
        log(done, objective)

    fit_als(interactions, SMALL, Engine.local, after_iteration)
    assert [done for done, _ in reported] == [1, 2]
    assert reported[1][1] < reported[0][1]
    assert "2 of 2" in lines[-1]
    assert f"{reported[1][1]:,.0f}" in lines[-1]


@pytest.mark.spark_only
def test_auto_is_local_if_the_pairs_fit_in_memory(interactions: StoredTable, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 64 * len(pairs()) + (12 + 10) * 3 * 4 * 6
    for free, engine in ((2 * needed, Engine.local), (2 * needed - 2, Engine.mllib)):
        monkeypatch.setattr(engines, "free_memory", lambda free=free: free)
        assert choose_engine(interactions, SMALL).engine == engine
    for engine in (Engine.local, Engine.mllib):
        assert choose_engine(interactions, SMALL, engine).engine == engine
