"""Audits that follow from a table's schema."""

from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.storage.audits import Audit, Evidence, Finding, measure, probe, probes_of, run_audits
from ecommerce_assets.storage.manifest import AuditResult
from ecommerce_assets.storage.table_audits import table_audits
from ecommerce_assets.storage.tables import Column, TableSchema

KEYED = TableSchema.of(Column("user_id", "bigint", "The user.", key=True), Column("day", "int", "The day.", key=True))


def audited(frame: DataFrame) -> dict[str, AuditResult]:
    audits = table_audits(KEYED)
    measures = {**measure(frame, audits)[None], **probe(frame, probes_of(audits), Evidence({}), lambda _: frame)}
    return {result.name: result for result in run_audits(audits, Evidence(measures))}


def test_keys_are_counted_and_never_null(spark: SparkSession) -> None:
    found = audited(spark.createDataFrame([(1, 1), (1, 2), (2, 1)], "user_id bigint, day int"))
    assert list(found) == ["no_nulls", "unique_key", "schema_unchanged", "row_count_stable"]
    assert all(result.passed for result in found.values())
    found = audited(spark.createDataFrame([(1, 1), (1, 1), (2, None)], "user_id bigint, day int"))
    assert found["unique_key"].message == "2 of 3 rows repeat a user_id, day"
    assert found["no_nulls"].message == "1 of 3 rows have a null in a required column"


def test_an_empty_table_breaks_nothing(spark: SparkSession) -> None:
    assert all(result.passed for result in audited(spark.createDataFrame([], "user_id bigint, day int")).values())


def test_a_judge_may_show_figures(spark: SparkSession) -> None:
    audits = [
        Audit("passed", "", lambda _: Finding(figures={"silhouette": 0.4})),
        Audit("failed", "", lambda _: Finding("it is so", {"silhouette": 0.1})),
    ]
    passed, failed = run_audits(audits, Evidence({}))
    assert (passed.passed, passed.figures) == (True, {"silhouette": 0.4})
    assert (failed.passed, failed.message, failed.figures) == (False, "it is so", {"silhouette": 0.1})
