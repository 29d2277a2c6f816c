"""The fit of ALS: what it refuses, that it repeats itself, that others can read it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.als import AlsParameters, fit_als

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


@pytest.fixture(scope="module")
def model(interactions: DataFrame) -> ALSModel:
    return fit_als(interactions, SMALL)


def test_default_parameters_are_those_of_the_specification() -> None:
    assert AlsParameters().as_dict() == {
        "rank": 50,
        "maxIter": 15,
        "regParam": 0.1,
        "alpha": 1.0,
        "nonnegative": True,
        "seed": 42,
    }


def test_factors_for_everyone_and_everything_none_below_zero(model: ALSModel) -> None:
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


def test_shuffled_input_gives_the_same_factors(spark: SparkSession, model: ALSModel, interactions: DataFrame) -> None:
    shuffled = spark.createDataFrame(list(reversed(pairs())), interactions.schema).repartition(5)
    other = fit_als(shuffled, SMALL)
    for one, two in ((model.userFactors, other.userFactors), (model.itemFactors, other.itemFactors)):
        expected, found = factors(one), factors(two)
        assert sorted(found) == sorted(expected)
        for number, vector in expected.items():
            np.testing.assert_allclose(found[number], vector, rtol=0, atol=1e-5)


def test_saved_model_loads_in_plain_pyspark(tmp_path: Path, model: ALSModel) -> None:
    model.write().save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    assert loaded.rank == 3
    for one, two in ((model.userFactors, loaded.userFactors), (model.itemFactors, loaded.itemFactors)):
        assert {n: v.tolist() for n, v in factors(two).items()} == {n: v.tolist() for n, v in factors(one).items()}


def test_unknown_pairs_are_dropped_from_predictions(spark: SparkSession, model: ALSModel) -> None:
    asked = spark.createDataFrame([(0, 0), (0, 99), (99, 0)], "user_idx int, product_idx int")
    assert [(row["user_idx"], row["product_idx"]) for row in model.transform(asked).collect()] == [(0, 0)]


def test_nothing_to_learn_from_is_an_error_in_plain_words(interactions: DataFrame) -> None:
    with pytest.raises(ValueError, match=r"^There is nothing to learn from: interaction_data has no rows"):
        fit_als(interactions.limit(0), SMALL)


def test_one_interaction_is_enough(spark: SparkSession) -> None:
    one = spark.createDataFrame([(0, 0, 1.0)], "user_idx int, product_idx int, rating double")
    assert list(factors(fit_als(one, SMALL).itemFactors)) == [0]
