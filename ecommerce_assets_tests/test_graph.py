"""The whole graph over generated events, and runs of the daily assets over chosen events."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.ml import PipelineModel
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.definitions import CATALOG, ON_DEMAND
from ecommerce_assets.events.assets import TABLES as DAILY_TABLES
from ecommerce_assets.events.landing import land
from ecommerce_assets.spark.connect import spark_path
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.markdown import sections
from ecommerce_assets.storage.metadata import NO_RAW_DATA
from ecommerce_assets.storage.promoted import PROMOTED
from ecommerce_assets.training_metadata.document import TrainingMetadata
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, event, read, run_graph, write_day
from ecommerce_assets_tests.lookup.shop import publish, seen

EXTERNAL = {"raw_events", "product_catalog"}
DAILY = ["cleaned_events", "rejected_events"]
OPS = {"cleaned_events": "clean_events"}
"""Names of the ops that differ from their assets."""


def rows(frame: DataFrame, *without: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.drop(*without).collect()), key=repr)


def test_every_asset_is_materialised_and_every_blocking_check_passes(
    ran: tuple[Path, dg.ExecuteInProcessResult],
) -> None:
    data_dir, result = ran
    assert result.success
    lake = Lake(str(data_dir))
    for asset in set(CATALOG) - EXTERNAL:
        assert lake.published(asset), asset
    evaluations = result.get_asset_check_evaluations()
    days = {day.day for day in lake.days("cleaned_events")}
    for asset, stored in {**CATALOG, **ON_DEMAND}.items():
        parts = days if asset in DAILY_TABLES else {None}
        reported = [(e.check_name, e.partition) for e in evaluations if e.asset_key == dg.AssetKey(asset)]
        if asset not in EXTERNAL:
            assert sorted(reported, key=str) == sorted(((c.name, p) for c in stored.checks for p in parts), key=str)
    raw_checks = [(e.check_name, e.passed) for e in evaluations if e.asset_key == dg.AssetKey("raw_events")]
    assert raw_checks == [("days_have_files", True), ("no_missing_days", True)]
    assert [e.check_name for e in evaluations if e.blocking and not e.passed] == []


def test_tables_have_exactly_the_documented_columns(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
) -> None:
    tables = {asset: stored.table for asset, stored in CATALOG.items() if stored.table and asset not in EXTERNAL}
    for asset in set(tables) - set(DAILY_TABLES):
        table = tables[asset]
        assert read(spark, ran[0], asset).dtypes == [(c.name, c.type) for c in table.with_id_type("bigint").columns]


def test_no_raw_row_is_lost(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir, _ = ran
    lake = Lake(str(data_dir))
    rejected = {day.day: day.stats.rows for day in lake.days("rejected_events")}
    accepted = 0
    for day in lake.days("cleaned_events"):
        raw = pq.read_table(data_dir / "raw" / "events" / f"event_date={day.day}", partitioning=None).num_rows
        assert raw == day.stats.rows + rejected[day.day] + day.stats.results["repeats"], day.day
        accepted += day.stats.rows or 0
    assert lake.latest("user_index").stats.numbers["events"] == accepted


def test_every_user_gets_ten_distinct_products_by_score(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
) -> None:
    top = read(spark, ran[0], "recommendations").toPandas()
    users = read(spark, ran[0], "segmented_users").count()
    assert top.user_id.nunique() == users
    for _, listed in top.sort_values("rank").groupby("user_id"):
        assert list(listed["rank"]) == list(range(1, 11))
        assert listed.product_id.is_unique
        assert listed.score.is_monotonic_decreasing


@pytest.mark.spark_only
def test_models_load_in_plain_pyspark(spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    lake = Lake(str(ran[0]))
    segmentation, als = (lake.latest(name) for name in ("segmentation_model", "als_model"))
    pipeline = PipelineModel.load(spark_path(f"{lake.folder(segmentation).uri}/model"))
    features = read(spark, ran[0], "segmented_users")
    again = pipeline.transform(features.drop("segment_id"))
    assert again.join(features.select("user_id", "segment_id"), ["user_id", "segment_id"]).count() == features.count()
    model = ALSModel.load(spark_path(f"{lake.folder(als).uri}/model"))
    assert model.rank == 4
    assert model.userFactors.count() == als.stats.results["users"]


def test_training_metadata_has_the_versions_it_was_made_from(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    lake = Lake(str(ran[0]))
    folder = lake.folder(lake.latest("training_metadata"))
    document = json.loads(folder.read_bytes("training_metadata.json"))
    assert document["total_users"] == lake.latest("user_index").stats.rows
    assert document["segments_count"] == 5
    assert document["parameters"]["als_model"]["rank"] == 4
    assert {"silhouette", "rmse", "coverage", "seconds", "training_date"} <= set(document)
    assert document == TrainingMetadata.model_validate(document).model_dump(mode="json", exclude_unset=True)
    assert json.loads(folder.read_bytes("training_metadata.schema.json")) == TrainingMetadata.model_json_schema()
    used = document["versions"]["recommendations"]
    assert used["version"] == lake.latest("recommendations").version
    assert f"als_model/{lake.latest('als_model').version}" in used["inputs"]


def test_materialisations_have_plots_and_the_model_card(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir, result = ran
    empty = {"segment_history", "customer_value"}  # in a first run over eight days
    for asset, spec in CATALOG.items():
        if not spec.plots or asset in empty:
            continue
        events = result.asset_materializations_for_node(OPS.get(asset, asset))
        [plots] = [e.metadata["plots"].value for e in events if "plots" in e.metadata]  # daily: on the newest day
        pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", plots)
        assert len(pictures) == len(spec.plots), asset
        for picture in pictures:
            assert 5_000 < len(picture) < 100_000
            assert Image.open(io.BytesIO(base64.b64decode(picture))).width <= 840, "fits a window of 1,100 pixels"
    [event] = result.asset_materializations_for_node("training_metadata")
    lake = Lake(str(data_dir))
    folder = lake.folder(lake.latest("training_metadata"))
    card = folder.read_bytes("training_metadata.md").decode()
    shown = {name: str(entry.value).rstrip() for name, entry in event.metadata.items()}
    assert sections(card).items() <= shown.items()
    assert len(sections(card)) == 9


def test_every_passed_check_says_what_it_checked(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    evaluations = ran[1].get_asset_check_evaluations()
    assert [(each.asset_key, each.check_name) for each in evaluations if not each.description] == []
    texts = {(each.asset_key.to_user_string(), each.check_name): str(each.description) for each in evaluations}
    assert texts["user_index", "no_nulls"].endswith(" rows have a null in user_id, user_idx, events")


def test_inputs_lead_back_to_the_raw_files(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir, _ = ran
    lake = Lake(str(data_dir))
    events = lake.ancestor(lake.latest("recommendations"), "cleaned_events")
    files = [f for step in events.inputs for f in step.files]
    assert [step.asset for step in events.inputs] == ["raw_events"] * 8
    for file in files:
        assert (data_dir / "raw" / "events" / file.path).stat().st_size == file.bytes


@pytest.mark.trial
def test_shuffled_rows_give_the_same_tables_and_lists(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    data_dir, _ = ran
    for folder in sorted((data_dir / "raw" / "events").glob("event_date=*")):
        table = pq.read_table(folder, partitioning=None)
        reversed_rows = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
        third = table.num_rows // 3
        day = folder.name.removeprefix("event_date=")
        write_day(tmp_path, day, reversed_rows.slice(third), "a")
        write_day(tmp_path, day, reversed_rows.slice(0, third), "b")
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY).success
    for asset in ("user_features", "product_features", "segmented_users", "user_index", "product_index"):
        assert rows(read(spark, tmp_path, asset)) == rows(read(spark, data_dir, asset)), asset
    shuffled, original = (read(spark, d, "recommendations") for d in (tmp_path, data_dir))
    assert rows(shuffled, "score") == rows(original, "score")
    scores = (
        shuffled.withColumnRenamed("score", "other")
        .join(original, ["user_id", "rank"])
        .selectExpr("abs(score - other)")
    )
    assert max(row[0] for row in scores.collect()) < 1e-5


def test_a_single_absent_day_is_an_error_and_writes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    result = run_graph(tmp_path, "2019-10-02", raise_on_error=False)
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert "event_date=2019-10-02 does not exist" in str(failure.step_failure_data.error)
    assert Lake(str(tmp_path)).assets() == [PROMOTED]


def by_partition(result: dg.ExecuteInProcessResult, asset: str) -> list[str | None]:
    """Days of an asset's materialisation events."""
    events = (e.event_specific_data.materialization for e in result.get_asset_materialization_events())
    return [e.partition for e in events if e.asset_key == dg.AssetKey(asset)]


def test_absent_days_of_a_range_keep_their_rows_and_empty_days_lose_them(spark: SparkSession, tmp_path: Path) -> None:
    days = ["2019-10-02", "2019-10-04", "2019-10-05"]
    publish(Lake(str(tmp_path)), "cleaned_events", {day: [seen(f"{day} 10:00", 1, 1)] for day in days})
    previous = Lake(str(tmp_path)).days("cleaned_events")[1]
    write_day(tmp_path, "2019-10-02", [event("2019-10-02 10:00:00")])
    write_day(tmp_path, "2019-10-05", [])
    result = run_graph(tmp_path, "2019-10-01", "2019-10-08", select=DAILY)
    assert by_partition(result, "cleaned_events") == days
    evaluations = result.get_asset_check_evaluations()
    assert {(e.partition, e.passed) for e in evaluations} == {(days[0], True), (days[2], True)}
    stored = {day.day: day for day in Lake(str(tmp_path)).days("cleaned_events")}
    assert stored["2019-10-04"].files == previous.files
    assert [day.version.version for day in stored.values()] == ["1", "0", "1"]
    assert stored["2019-10-05"].stats.rows == 0
    metadata = {
        m.partition: m.metadata
        for m in result.asset_materializations_for_node("clean_events")
        if m.asset_key == dg.AssetKey("cleaned_events")
    }
    assert metadata["2019-10-04"]["rows"].value == NO_RAW_DATA
    assert [metadata[day]["dagster/partition_row_count"].value for day in (days[0], days[2])] == [1, 0]


def test_a_blocked_day_fails_the_step_and_the_others_are_published(spark: SparkSession, tmp_path: Path) -> None:
    days = ["2019-10-01", "2019-10-02", "2019-10-03"]
    bad, chain = days[1], [*DAILY, "user_features"]
    lake = Lake(str(tmp_path))
    publish(lake, "cleaned_events", {day: [seen(f"{day} 10:00", n, 1) for n in range(8)] for day in days})
    publish(lake, "user_features", [{"user_id": n} for n in range(8)])
    features, before = lake.latest("user_features"), lake.days("cleaned_events")
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 10:00:00", user_id=n) for n in range(8)])
        write_day(tmp_path, day, [event(f"{day} 11:00:00")], "late")
    negative = [event(f"{bad} 11:00:00", price=-1.0, user_id=n) for n in range(2)]
    # Without the event that has no time, a fifth of the day would be rejected at most, which is allowed.
    invalid = write_day(tmp_path, bad, [*negative, {**negative[0], "event_time": None}], "invalid")
    with dg.DagsterInstance.local_temp() as instance:
        result = run_graph(tmp_path, days[0], days[2], select=chain, raise_on_error=False, instance=instance)
        daily = dg.DailyPartitionsDefinition(days[0])
        status = instance.get_status_by_partition(dg.AssetKey("cleaned_events"), days, daily)
    assert {day: value and value.name for day, value in (status or {}).items()} == {
        days[0]: "MATERIALIZED",
        bad: "FAILED",
        days[2]: "MATERIALIZED",
    }
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert failure.step_key == "clean_events"
    description = failure.step_failure_data.user_failure_data.description
    reason = f"{bad}: 3 of 12 raw rows were rejected; most frequent reason: negative price (2), maximum share: 20.0 %"
    assert description.startswith(f"cleaned_events is blocked by few_rejected: {reason}")
    assert by_partition(result, "cleaned_events") == [days[0], days[2]]
    assert by_partition(result, "rejected_events") == days
    assert by_partition(result, "user_features") == []
    evaluations = [e for e in result.get_asset_check_evaluations() if e.asset_key.path[-1] == "cleaned_events"]
    assert {(e.check_name, e.partition) for e in evaluations} == {
        (check.name, day) for check in CATALOG["cleaned_events"].checks for day in days
    }
    [failed] = [e for e in evaluations if not e.passed and e.blocking]
    assert (failed.check_name, failed.partition) == ("few_rejected", bad)
    assert failed.severity == dg.AssetCheckSeverity.ERROR
    assert failed.description == reason

    after = lake.days("cleaned_events")
    assert [(day.day, day.version.version, day.stats.rows) for day in after] == [
        (days[0], "1", 9),
        (bad, "0", 8),
        (days[2], "1", 9),
    ]
    assert after[1].files == before[1].files
    assert lake.latest("user_features") == features, "nothing downstream ran"
    [blocked] = lake.blocked("cleaned_events")
    assert (list(blocked.days), blocked.days[bad].rows) == ([bad], 9)
    folder = tmp_path / "lake" / "cleaned_events" / "_blocked"
    [file] = folder.glob(f"{blocked.folder}/event_date={bad}/*.parquet")
    assert pq.read_metadata(file).num_rows == 9
    assert str(folder / blocked.folder) in description

    invalid.unlink()
    assert run_graph(tmp_path, bad, select=DAILY).success
    corrected = [(day.version.version, day.stats.rows) for day in lake.days("cleaned_events")]
    assert corrected == [("1", 9), ("2", 9), ("1", 9)]
    assert lake.blocked("cleaned_events") == []
    assert list(folder.rglob("*.parquet")) == []


def test_a_day_with_other_column_types_is_blocked_until_all_days_have_them(spark: SparkSession, tmp_path: Path) -> None:
    days, lake = ["2019-10-01", "2019-10-02"], Lake(str(tmp_path))
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 10:00:00")])
    publish(lake, "cleaned_events", {day: [seen(f"{day} 10:00", 1, 1)] for day in days})
    result = run_graph(tmp_path, days[1], select=DAILY, raise_on_error=False, id_type="string")
    failed = [e.check_name for e in result.get_asset_check_evaluations() if e.blocking and not e.passed]
    assert (result.success, failed) == (False, ["schema_unchanged"])
    assert dict(read(spark, tmp_path, "cleaned_events").dtypes)["user_id"] == "bigint"
    assert run_graph(tmp_path, *days, select=DAILY, id_type="string").success
    stored = read(spark, tmp_path, "cleaned_events")
    assert (dict(stored.dtypes)["user_id"], stored.count()) == ("string", 2)
    assert lake.blocked("cleaned_events") == []


@pytest.mark.trial
def test_the_setting_allows_more_rejected_rows(spark: SparkSession, tmp_path: Path) -> None:
    events = [event("2019-10-01 10:00:00", price=-1.0 if n < 4 else 1.0, user_id=n) for n in range(10)]
    write_day(tmp_path, "2019-10-01", events)
    assert run_graph(tmp_path, "2019-10-01", select=DAILY, max_rejected_share=0.4).success
    assert Lake(str(tmp_path)).latest("cleaned_events").parameters["max_rejected_share"] == 0.4


def test_a_day_is_compared_with_earlier_days_and_a_difference_only_warns(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(1, 5):
        day = f"2019-10-0{number}"
        table = pa.Table.from_pylist([event(f"{day} 10:00:00", user_id=n) for n in range(10 if number < 4 else 21)])
        if number == 4:
            prices = table.column("price").cast(pa.string())
            table = table.set_column(table.schema.get_field_index("price"), "price", prices).drop_columns(["brand"])
        write_day(tmp_path, day, table)
    result = run_graph(tmp_path, "2019-10-01", "2019-10-04", select=DAILY)
    assert result.success
    failed = {e.check_name: str(e.description) for e in result.get_asset_check_evaluations() if not e.passed}
    assert set(failed) == {"row_count_stable", "raw_columns_unchanged"}
    assert failed["row_count_stable"].startswith("2019-10-04: 21 rows")
    for part in ("2019-10-04", "2019-10-03", "brand: null → missing", "price: double → string"):
        assert part in failed["raw_columns_unchanged"]
    assert len(Lake(str(tmp_path)).days("cleaned_events")) == 4


@pytest.mark.trial
def test_lists_stay_if_a_baseline_beats_the_new_model(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    lake = Lake(str(tmp_path))
    served = ["blend_model", "recommendations"]
    versions = {name: lake.latest(name).version for name in [*served, "als_model", "als_evaluation"]}
    # With so much regularisation, popular and rare products have the same score.
    config = {
        "ops": {
            "als_model": {"config": {"rank": 4, "maxIter": 2, "regParam": 100.0}},
            "als_evaluation": {"config": {"ranker": "als"}},
        }
    }
    chain = ["als_model", "als_evaluation", *served, "training_metadata"]
    result = run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=chain, run_config=config, raise_on_error=False)
    assert not result.success
    # A check of als_model also fails, which only warns: two iterations are too few.
    [failed] = [e for e in result.get_asset_check_evaluations() if not e.passed and e.blocking]
    assert (failed.check_name, failed.asset_key) == ("not_worse_than_best_baseline", dg.AssetKey("als_evaluation"))
    assert "best baseline" in str(failed.description)
    published = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events() if e.asset_key}
    assert published == {"als_model"}
    for name in [*served, "als_evaluation"]:
        assert lake.latest(name).version == versions[name]
    assert [v.failed_blocking[0].name for v in lake.blocked("als_evaluation")] == ["not_worse_than_best_baseline"]
    # A run of the lists alone uses the model of the last evaluation that passed.
    assert lake.latest("als_model").version != versions["als_model"]
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=served, run_config={}).success
    for name in served:
        assert lake.latest(name).version != versions[name]
        assert lake.ancestor(lake.latest(name), "als_model").version == versions["als_model"]
    # So does the model card.
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=["training_metadata"], run_config={}).success
    assert lake.latest("training_metadata").input_version("als_model") == versions["als_model"]


def test_a_damaged_page_fails_its_day_and_no_other(spark: SparkSession, tmp_path: Path) -> None:
    for day in ("2019-10-01", "2019-10-02"):
        rows = [event(f"{day} 10:{n % 60:02d}:00", product_id=n * 7919, user_id=n) for n in range(3000)]
        land([str(write_day(tmp_path / "files", day, rows))], tmp_path)
    [path] = (tmp_path / "raw/events/event_date=2019-10-02").glob("*.parquet")
    content = path.read_bytes()
    quarter = len(content) // 4
    path.write_bytes(content[:quarter] + b"\xff" * quarter + content[2 * quarter :])
    result = run_graph(tmp_path, "2019-10-01", "2019-10-02", select=DAILY, raise_on_error=False)
    assert {day.day: day.stats.rows for day in Lake(str(tmp_path)).days("cleaned_events")} == {"2019-10-01": 3000}
    assert by_partition(result, "cleaned_events") == ["2019-10-01"]
    [failure] = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    assert failure is not None
    assert str(failure.description).startswith(f"{path} cannot be read (")
    assert str(failure.description).endswith(": remove it or land it again. The other days were cleaned.")


@pytest.mark.trial
def test_the_graph_runs_on_a_single_event(spark: SparkSession, tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00", product_id=7, user_id=5)])
    assert run_graph(tmp_path, "2019-10-01").success
    [row] = read(spark, tmp_path, "recommendations").collect()
    assert (row["user_id"], row["rank"], row["product_id"]) == (5, 1, 7)


@pytest.mark.trial
def test_the_graph_runs_on_few_events_with_string_ids(spark: SparkSession, tmp_path: Path) -> None:
    events = [event(f"2019-10-01 10:{n:02d}:00", user_id=f"u{n // 3}", product_id=f"SKU-{n % 7}") for n in range(30)]
    # A user who bought all products gets no list, and no check fails for that.
    events += [event(f"2019-10-01 11:0{n}:00", "purchase", user_id="all", product_id=f"SKU-{n}") for n in range(7)]
    table = pa.Table.from_pylist(events)
    write_day(tmp_path, "2019-10-01", table)
    assert run_graph(tmp_path, "2019-10-01", id_type="string").success
    top = read(spark, tmp_path, "recommendations").toPandas()
    assert set(top.product_id) <= {f"SKU-{n}" for n in range(7)}
    assert set(top.user_id) == {f"u{n}" for n in range(10)}
    assert len(top) == 10 * 7  # fewer than ten products: every user gets all of them


@pytest.mark.trial
def test_recommendations_use_the_index_of_their_model(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    before = rows(read(spark, tmp_path, "recommendations"))
    # New events change the order of the products; the model stays.
    index = {row["product_id"]: row["product_idx"] for row in read(spark, tmp_path, "product_index").collect()}
    last = max(index, key=lambda product: index[product])
    views = [event(f"2019-10-01 11:{n // 60:02d}:{n % 60:02d}", product_id=last, user_id=1) for n in range(900)]
    write_day(tmp_path, "2019-10-01", views, "late")
    indices = ["cleaned_events", "rejected_events", "product_index", "user_index"]
    run_graph(tmp_path, "2019-10-01", select=indices, run_config={})
    renumbered = {row["product_id"]: row["product_idx"] for row in read(spark, tmp_path, "product_index").collect()}
    assert (index[last], renumbered[last]) == (len(index) - 1, 0)
    run_graph(tmp_path, "2019-10-01", select=["recommendations"], run_config={})
    lake = Lake(str(tmp_path))
    index_of_model = lake.ancestor(lake.latest("als_model"), "product_index").version
    assert lake.latest("product_index").version != index_of_model
    assert lake.latest("recommendations").input_version("product_index") == index_of_model
    assert rows(read(spark, tmp_path, "recommendations")) == before
