"""The whole graph, run as the command runs it, on events of its own making."""

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

TABLES = [
    "user_features",
    "product_features",
    "segmented_users",
    "customer_groups",
    "segment_history",
    "customer_value",
    "user_index",
    "product_index",
    "interaction_data",
    "item_neighbours",
    "als_evaluation",
    "product_eligibility",
    "recommendations",
    "similar_products",
    "product_pairs",
]

EXTERNAL = {"raw_events", "product_catalog"}

NODES = {"cleaned_events": "clean_events"}
"""Names of the ops that have not that of their asset."""


def rows(frame: DataFrame, *leave_out: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.drop(*leave_out).collect()), key=repr)


def test_every_asset_is_materialised_and_every_blocking_check_passes(
    ran: tuple[Path, dg.ExecuteInProcessResult],
) -> None:
    data_dir, result = ran
    assert result.success
    lake = Lake(str(data_dir))
    for asset in set(CATALOG) - EXTERNAL:
        assert lake.published(asset), asset
    evaluations = result.get_asset_check_evaluations()
    of_raw_files = [e for e in evaluations if e.asset_key == dg.AssetKey("raw_events")]
    days = {day.day for day in lake.days("cleaned_events")}
    for asset, stored in {**CATALOG, **ON_DEMAND}.items():
        parts = days if asset in DAILY_TABLES else {None}
        reported = [(e.check_name, e.partition) for e in evaluations if e.asset_key == dg.AssetKey(asset)]
        if asset not in EXTERNAL:
            assert sorted(reported, key=str) == sorted(((c.name, p) for c in stored.checks for p in parts), key=str)
    assert [(e.check_name, e.passed) for e in of_raw_files] == [("days_have_files", True), ("no_missing_days", True)]
    assert [e.check_name for e in evaluations if e.blocking and not e.passed] == []


def test_tables_have_exactly_the_columns_that_are_documented(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
) -> None:
    for asset in TABLES:
        table = CATALOG[asset].table
        assert table is not None
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


def test_every_user_gets_ten(spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    top = read(spark, ran[0], "recommendations").toPandas()
    users = read(spark, ran[0], "segmented_users").count()
    assert top.user_id.nunique() == users
    for _, own in top.sort_values("rank").groupby("user_id"):
        assert list(own["rank"]) == list(range(1, 11))
        assert own.product_id.is_unique
        assert own.score.is_monotonic_decreasing


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


def test_training_metadata_names_what_it_was_made_from(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
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


def test_plots_and_card_are_shown(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    """Each plot is there, small, and fits a window of 1,100 pixels; the card is the one beside the document."""
    data_dir, result = ran
    nothing_to_show = {"segment_history", "customer_value"}  # a first run, over eight days
    for asset, spec in CATALOG.items():
        if not spec.plots or asset in nothing_to_show:
            continue
        told = [
            e.metadata["plots"].value
            for e in result.asset_materializations_for_node(NODES.get(asset, asset))
            if "plots" in e.metadata
        ]
        assert len(told) == 1, asset  # of a daily asset, on the newest day
        drawn = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", told[0])
        assert len(drawn) == len(spec.plots), asset
        for picture in drawn:
            assert 5_000 < len(picture) < 100_000
            assert Image.open(io.BytesIO(base64.b64decode(picture))).width <= 840
    [made] = result.asset_materializations_for_node("training_metadata")
    lake = Lake(str(data_dir))
    folder = lake.folder(lake.latest("training_metadata"))
    card = folder.read_bytes("training_metadata.md").decode()
    shown = {name: str(entry.value).rstrip() for name, entry in made.metadata.items()}
    assert sections(card).items() <= shown.items()
    assert len(sections(card)) == 9


def test_every_passed_check_says_what_it_checked(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    made = ran[1].get_asset_check_evaluations()
    assert [(each.asset_key, each.check_name) for each in made if not each.description] == []
    texts = {(each.asset_key.to_user_string(), each.check_name): each.description for each in made}
    assert texts["user_index", "no_nulls"] == "0 of 1,000 rows have a null in user_id, user_idx, events"


def test_inputs_lead_back_to_the_raw_files(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir, _ = ran
    lake = Lake(str(data_dir))
    events = lake.ancestor(lake.latest("recommendations"), "cleaned_events")
    files = [f for step in events.inputs for f in step.files]
    assert [step.asset for step in events.inputs] == ["raw_events"] * 8
    for file in files:
        assert (data_dir / "raw" / "events" / file.path).stat().st_size == file.bytes


@pytest.mark.trial
def test_shuffled_rows_and_a_second_run_change_nothing(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    data_dir, _ = ran
    for folder in sorted((data_dir / "raw" / "events").glob("event_date=*")):
        table = pq.read_table(folder, partitioning=None)
        reversed_rows = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
        half = table.num_rows // 3
        day = folder.name.removeprefix("event_date=")
        write_day(tmp_path, day, reversed_rows.slice(half), "a")
        write_day(tmp_path, day, reversed_rows.slice(0, half), "b")
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY).success
    for asset in ("user_features", "product_features", "segmented_users", "user_index", "product_index"):
        assert rows(read(spark, tmp_path, asset)) == rows(read(spark, data_dir, asset)), asset
    here, there = (read(spark, d, "recommendations") for d in (tmp_path, data_dir))
    assert rows(here, "score") == rows(there, "score")
    scores = here.withColumnRenamed("score", "other").join(there, ["user_id", "rank"]).selectExpr("abs(score - other)")
    assert max(row[0] for row in scores.collect()) < 1e-5


def test_a_single_absent_day_is_an_error_and_writes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    result = run_graph(tmp_path, "2019-10-02", raise_on_error=False)
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    said = str(failure.step_failure_data.error)
    assert "There is no raw data for 2019-10-02" in said
    assert "event_date=2019-10-02 does not exist" in said
    assert Lake(str(tmp_path)).assets() == [PROMOTED]


def test_an_absent_day_inside_a_range_keeps_what_is_stored(spark: SparkSession, tmp_path: Path) -> None:
    days = ["2019-10-01", "2019-10-02", "2019-10-03"]
    for number, day in enumerate(days):
        write_day(tmp_path, day, [event(f"{day} 10:00:00", user_id=number)])
    events = ["cleaned_events", "rejected_events"]
    run_graph(tmp_path, days[0], days[2], select=events)
    before = Lake(str(tmp_path)).days("cleaned_events")[1]
    shutil.rmtree(tmp_path / "raw" / "events" / "event_date=2019-10-02")
    # A folder that is there and empty of rows replaces what was stored.
    write_day(tmp_path, "2019-10-03", [])
    result = run_graph(tmp_path, days[0], days[2], select=events)
    stored = {day.day: day for day in Lake(str(tmp_path)).days("cleaned_events")}
    assert stored["2019-10-02"].files == before.files
    assert (stored["2019-10-02"].version.version, stored["2019-10-01"].version.version) == ("0", "1")
    assert stored["2019-10-03"].stats.rows == 0
    told = {
        m.partition: m.metadata
        for m in result.asset_materializations_for_node("clean_events")
        if m.asset_key == dg.AssetKey("cleaned_events")
    }
    assert told["2019-10-02"]["rows"].value == NO_RAW_DATA
    assert told["2019-10-01"]["dagster/partition_row_count"].value == 1
    assert told["2019-10-03"]["dagster/partition_row_count"].value == 0


def by_partition(result: dg.ExecuteInProcessResult, asset: str) -> list[str | None]:
    """Days of an asset's materialisation events."""
    events = (e.event_specific_data.materialization for e in result.get_asset_materialization_events())
    return [e.partition for e in events if e.asset_key == dg.AssetKey(asset)]


def test_a_blocked_day_fails_the_step_and_the_others_are_published(spark: SparkSession, tmp_path: Path) -> None:
    days = ["2019-10-01", "2019-10-02", "2019-10-03"]
    bad, chain = days[1], ["cleaned_events", "rejected_events", "user_features"]
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 10:00:00", user_id=n) for n in range(4)])
    run_graph(tmp_path, days[0], days[2], select=chain)
    lake = Lake(str(tmp_path))
    features, before = lake.latest("user_features"), lake.days("cleaned_events")
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 11:00:00")], "late")
    poison = write_day(tmp_path, bad, [event(f"{bad} 11:00:00", price=-1.0, user_id=n) for n in range(40)], "poison")
    with dg.DagsterInstance.local_temp() as instance:
        result = run_graph(tmp_path, days[0], days[2], select=chain, raise_on_error=False, instance=instance)
        daily = dg.DailyPartitionsDefinition(days[0])
        status = instance.get_status_by_partition(dg.AssetKey("cleaned_events"), days, daily)
    assert {day: found and found.name for day, found in (status or {}).items()} == {
        days[0]: "MATERIALIZED",
        bad: "FAILED",
        days[2]: "MATERIALIZED",
    }
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert failure.step_key == "clean_events"
    description = failure.step_failure_data.user_failure_data.description
    why = f"{bad}: 40 of 45 raw rows were rejected; most frequent reason: negative price (40), maximum share: 20%"
    assert description.startswith(f"cleaned_events is blocked by few_rejected: {why}")
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
    assert failed.description == why

    after = lake.days("cleaned_events")
    assert [(day.day, day.version.version, day.stats.rows) for day in after] == [
        (days[0], "1", 5),
        (bad, "0", 4),
        (days[2], "1", 5),
    ]
    assert after[1].files == before[1].files
    assert lake.latest("user_features") == features, "nothing downstream ran"
    [blocked] = lake.blocked("cleaned_events")
    assert (list(blocked.days), blocked.days[bad].rows) == ([bad], 5)
    folder = tmp_path / "lake" / "cleaned_events" / "_blocked"
    [file] = folder.glob(f"{blocked.folder}/event_date={bad}/*.parquet")
    assert pq.read_metadata(file).num_rows == 5
    assert str(folder / blocked.folder) in description

    poison.unlink()
    assert run_graph(tmp_path, bad, select=chain[:2]).success
    corrected = [(day.version.version, day.stats.rows) for day in lake.days("cleaned_events")]
    assert corrected == [("1", 5), ("2", 5), ("1", 5)]
    assert lake.blocked("cleaned_events") == []
    assert list(folder.rglob("*.parquet")) == []


def test_a_day_with_other_column_types_is_blocked_until_all_days_have_them(spark: SparkSession, tmp_path: Path) -> None:
    days, chain = ["2019-10-01", "2019-10-02"], ["cleaned_events", "rejected_events"]
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 10:00:00")])
    assert run_graph(tmp_path, *days, select=chain).success
    result = run_graph(tmp_path, days[1], select=chain, raise_on_error=False, id_type="string")
    failed = [e.check_name for e in result.get_asset_check_evaluations() if e.blocking and not e.passed]
    assert (result.success, failed) == (False, ["schema_unchanged"])
    assert dict(read(spark, tmp_path, "cleaned_events").dtypes)["user_id"] == "bigint"
    assert run_graph(tmp_path, *days, select=chain, id_type="string").success
    stored = read(spark, tmp_path, "cleaned_events")
    assert (dict(stored.dtypes)["user_id"], stored.count()) == ("string", 2)
    assert Lake(str(tmp_path)).blocked("cleaned_events") == []


@pytest.mark.trial
def test_a_shop_may_allow_more_rejected_rows(spark: SparkSession, tmp_path: Path) -> None:
    made = [event("2019-10-01 10:00:00", price=-1.0 if n < 4 else 1.0, user_id=n) for n in range(10)]
    write_day(tmp_path, "2019-10-01", made)
    events = ["cleaned_events", "rejected_events"]
    assert not run_graph(tmp_path, "2019-10-01", select=events, raise_on_error=False).success
    assert run_graph(tmp_path, "2019-10-01", select=events, max_rejected_share=0.4).success
    assert Lake(str(tmp_path)).latest("cleaned_events").parameters["max_rejected_share"] == 0.4


def test_a_day_is_compared_with_the_days_before_it(spark: SparkSession, tmp_path: Path) -> None:
    """In one run as in several; what is odd is told, and published all the same."""
    for number in range(1, 5):
        day = f"2019-10-0{number}"
        made = [event(f"{day} 10:00:00", user_id=n) for n in range(10 if number < 4 else 21)]
        table = pa.Table.from_pylist(made)
        if number == 4:
            prices = pa.array([str(price) for price in table.column("price").to_pylist()])
            table = table.set_column(table.schema.get_field_index("price"), "price", prices).drop_columns(["brand"])
        write_day(tmp_path, day, table)
    events = ["cleaned_events", "rejected_events"]
    run_graph(tmp_path, "2019-10-01", "2019-10-02", select=events)
    result = run_graph(tmp_path, "2019-10-03", "2019-10-04", select=events)
    assert result.success
    told = {e.check_name: str(e.description) for e in result.get_asset_check_evaluations() if not e.passed}
    assert set(told) == {"row_count_stable", "raw_columns_unchanged"}
    assert told["row_count_stable"].startswith("2019-10-04: 21 rows")
    for part in ("2019-10-04", "2019-10-03", "brand: null → missing", "price: double → string"):
        assert part in told["raw_columns_unchanged"]
    assert len(Lake(str(tmp_path)).days("cleaned_events")) == 4


@pytest.mark.trial
def test_a_model_that_a_baseline_beats_reaches_nobody(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    lake = Lake(str(tmp_path))
    customers_see = ["blend_model", "recommendations"]
    versions = {name: lake.latest(name).version for name in [*customers_see, "als_model", "als_evaluation"]}
    # Regularised so much that a product that many bought counts no more than one that a few did.
    ruined = {
        "ops": {
            "als_model": {"config": {"rank": 4, "maxIter": 2, "regParam": 100.0}},
            "als_evaluation": {"config": {"ranker": "als"}},
        }
    }
    chain = ["als_model", "als_evaluation", *customers_see, "training_metadata"]
    result = run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=chain, run_config=ruined, raise_on_error=False)
    assert not result.success
    # The fit warns, too, that two iterations are too few.
    [failed] = [e for e in result.get_asset_check_evaluations() if not e.passed and e.blocking]
    assert (failed.check_name, failed.asset_key) == ("not_worse_than_best_baseline", dg.AssetKey("als_evaluation"))
    assert "best baseline" in str(failed.description)
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events() if e.asset_key}
    assert made == {"als_model"}
    for name in [*customers_see, "als_evaluation"]:
        assert lake.latest(name).version == versions[name], f"readers still see {name} as it was"
    assert [v.failed_blocking[0].name for v in lake.blocked("als_evaluation")] == ["not_worse_than_best_baseline"]
    # Nor does it on the way around: lists that are made alone are made with the model that was judged good.
    assert lake.latest("als_model").version != versions["als_model"]
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=customers_see, run_config={}).success
    for name in customers_see:
        assert lake.latest(name).version != versions[name]
        assert lake.ancestor(lake.latest(name), "als_model").version == versions["als_model"]
    # And the card tells of that model, not of the one that nobody is served by.
    assert run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=["training_metadata"], run_config={}).success
    assert lake.latest("training_metadata").input_version("als_model") == versions["als_model"]


def test_events_without_a_time_count_for_the_share_that_blocks_a_day(spark: SparkSession, tmp_path: Path) -> None:
    nameless = [{**event("2019-10-01 10:00:00"), "event_time": None}, event("1970-01-01 00:00:00")]
    for day, good in (("2019-10-01", 8), ("2019-10-02", 7)):
        write_day(tmp_path, day, [*[event(f"{day} 10:{n:02d}:00") for n in range(good)], *nameless])
    result = run_graph(
        tmp_path, "2019-10-01", "2019-10-02", select=["cleaned_events", "rejected_events"], raise_on_error=False
    )
    assert [day.day for day in Lake(str(tmp_path)).days("cleaned_events")] == ["2019-10-01"]
    failed = [(e.check_name, e.partition) for e in result.get_asset_check_evaluations() if not e.passed]
    assert failed == [("few_rejected", "2019-10-02")]


@pytest.mark.parametrize("is_landed", [True, False])
def test_a_damaged_page_fails_its_day_and_no_other(spark: SparkSession, tmp_path: Path, is_landed: bool) -> None:
    for day in ("2019-10-01", "2019-10-02"):
        rows = [event(f"{day} 10:{n % 60:02d}:00", product_id=n * 7919, user_id=n) for n in range(3000)]
        path = write_day(tmp_path / "made", day, rows)
        if is_landed:
            land([str(path)], tmp_path)
        else:
            write_day(tmp_path, day, rows)
    [path] = (tmp_path / "raw/events/event_date=2019-10-02").glob("*.parquet")
    content = path.read_bytes()
    quarter = len(content) // 4
    path.write_bytes(content[:quarter] + b"\xff" * quarter + content[2 * quarter :])
    result = run_graph(
        tmp_path, "2019-10-01", "2019-10-02", select=["cleaned_events", "rejected_events"], raise_on_error=False
    )
    assert {day.day: day.stats.rows for day in Lake(str(tmp_path)).days("cleaned_events")} == {"2019-10-01": 3000}
    assert by_partition(result, "cleaned_events") == ["2019-10-01"]
    [failure] = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    assert failure is not None
    assert str(failure.description).startswith(f"{path} cannot be read (")
    assert str(failure.description).endswith(": remove it or land it again. The other days were cleaned.")


def test_a_range_emits_events_for_days_with_data_only(spark: SparkSession, tmp_path: Path) -> None:
    days = ["2019-10-02", "2019-10-05"]
    for day in days:
        write_day(tmp_path, day, [event(f"{day} 10:00:00")])
    result = run_graph(tmp_path, "2019-10-01", "2019-10-31", select=["cleaned_events", "rejected_events"])
    assert result.success
    for asset in ("cleaned_events", "rejected_events"):
        assert by_partition(result, asset) == days
    evaluations = result.get_asset_check_evaluations()
    assert {e.partition for e in evaluations} == set(days)
    assert all(e.passed for e in evaluations)
    shutil.rmtree(tmp_path / "raw" / "events" / "event_date=2019-10-05")
    again = run_graph(tmp_path, "2019-10-01", "2019-10-31", select=["cleaned_events", "rejected_events"])
    assert by_partition(again, "cleaned_events") == days, "what was stored stays, and its event says so"


@pytest.mark.trial
def test_nothing_fails_on_a_single_event(spark: SparkSession, tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00", product_id=7, user_id=5)])
    assert run_graph(tmp_path, "2019-10-01").success
    [row] = read(spark, tmp_path, "recommendations").collect()
    assert (row["user_id"], row["rank"], row["product_id"]) == (5, 1, 7)


@pytest.mark.trial
def test_a_handful_of_string_ids_go_through_the_whole_graph(spark: SparkSession, tmp_path: Path) -> None:
    made = [event(f"2019-10-01 10:{n:02d}:00", user_id=f"u{n // 3}", product_id=f"SKU-{n % 7}") for n in range(30)]
    # Nothing is left to be recommended to who bought everything: no list, and no check that fails for it.
    made += [event(f"2019-10-01 11:0{n}:00", "purchase", user_id="sated", product_id=f"SKU-{n}") for n in range(7)]
    table = pa.Table.from_pylist(made)
    write_day(tmp_path, "2019-10-01", table)
    assert run_graph(tmp_path, "2019-10-01", id_type="string").success
    top = read(spark, tmp_path, "recommendations").toPandas()
    assert set(top.product_id) <= {f"SKU-{n}" for n in range(7)}
    assert set(top.user_id) == {f"u{n}" for n in range(10)}
    assert len(top) == 10 * 7, "fewer than ten products: every user gets all of them"


@pytest.mark.trial
def test_recommendations_use_the_index_that_the_model_was_made_with(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    before = rows(read(spark, tmp_path, "recommendations"))
    # New events turn the order of the products around; the model of before stays.
    index = {row["product_id"]: row["product_idx"] for row in read(spark, tmp_path, "product_index").collect()}
    last = max(index, key=lambda product: index[product])
    rush = [event(f"2019-10-01 11:{n // 60:02d}:{n % 60:02d}", product_id=last, user_id=1) for n in range(900)]
    write_day(tmp_path, "2019-10-01", rush, "late")
    indices = ["cleaned_events", "rejected_events", "product_index", "user_index"]
    run_graph(tmp_path, "2019-10-01", select=indices, run_config={})
    renumbered = {row["product_id"]: row["product_idx"] for row in read(spark, tmp_path, "product_index").collect()}
    assert (index[last], renumbered[last]) == (len(index) - 1, 0)
    run_graph(tmp_path, "2019-10-01", select=["recommendations"], run_config={})
    lake = Lake(str(tmp_path))
    made_with = lake.ancestor(lake.latest("als_model"), "product_index").version
    assert lake.latest("product_index").version != made_with
    assert lake.latest("recommendations").input_version("product_index") == made_with
    assert rows(read(spark, tmp_path, "recommendations")) == before
