"""Audits that follow from a table's schema, and those that are measured group by group."""

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.storage.audits import Evidence, measure, run_audits, table_audits
from ecommerce_assets.storage.tables import Column, TableSchema

LISTS = TableSchema.of(
    Column("user_id", "bigint", "The user.", key=True),
    Column("rank", "int", "From 1.", key=True),
)
LONG = list(range(1, 101))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        pytest.param([[1, 2, 3], [1], LONG], "", id="right"),
        pytest.param([], "", id="no list"),
        pytest.param([list(range(1, 63)), list(range(1, 64))], "", id="as long as bits go, and one longer"),
        pytest.param([[1, 2, 3], [1, 2, 2]], "1 lists of a user_id have a rank twice or leave one out", id="twice"),
        pytest.param([[1, 3], [2, 3], [0, 1]], "3 lists of a user_id have a rank twice or leave one out", id="gaps"),
        pytest.param(
            [[*LONG, 100]], "1 lists of a user_id have a rank twice or leave one out", id="twice in a long one"
        ),
        pytest.param(
            [[1, *LONG[2:], 5]], "1 lists of a user_id have a rank twice or leave one out", id="one for another"
        ),
        pytest.param(
            [[{2: 3, 6: 4, 7: 8}.get(rank, rank) for rank in LONG]],
            "1 lists of a user_id have a rank twice or leave one out",
            id="the same sum and sum of squares",
        ),
        pytest.param([[1, 100_000], [-5]], "2 lists of a user_id have a rank twice or leave one out", id="far off"),
    ],
)
def test_ranks_of_lists(spark: SparkSession, lists: list[list[int]], message: str) -> None:
    rows = [(user, rank) for user, ranks in enumerate(lists) for rank in ranks]
    frame = spark.createDataFrame(rows, "user_id bigint, rank int").repartition(3)
    audits = table_audits(LISTS)
    measures = measure(frame, audits)[None]
    found = {result.name: result for result in run_audits(audits, Evidence(measures))}
    assert measures["rows"] == len(rows)
    assert sorted(found) == ["no_nulls", "unique_key"]
    assert (found["unique_key"].passed, found["unique_key"].message) == (not message, message)
    assert found["no_nulls"].passed


def test_other_keys_are_counted(spark: SparkSession) -> None:
    schema = TableSchema.of(Column("user_id", "bigint", "The user.", key=True))
    audits = table_audits(schema)
    frame = spark.createDataFrame([(1,), (2,), (2,)], "user_id bigint")
    found = {result.name: result for result in run_audits(audits, Evidence(measure(frame, audits)[None]))}
    assert found["unique_key"].message == "1 of 3 rows repeat a user_id"
