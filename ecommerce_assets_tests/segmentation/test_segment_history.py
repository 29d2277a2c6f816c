"""The history of a few users over several runs."""

import datetime as dt
import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.segmentation.checks import SEGMENT_HISTORY_CHECKS
from ecommerce_assets.segmentation.customer_plots import SEGMENT_HISTORY_NOTES, SEGMENT_HISTORY_PLOTS
from ecommerce_assets.segmentation.segment_history import (
    CHANGES,
    SEGMENT_HISTORY,
    Dates,
    add_changes,
    moved_users,
    movement,
)
from ecommerce_assets.storage.checks import CheckContext, Outcome, Previous, measure
from ecommerce_assets.storage.display import png
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import LAST_DAY, event, read, run_graph, write_day

FIRST, SECOND, THIRD = (dt.date(2020, 1, day) for day in (1, 2, 9))

States = Mapping[int, tuple[str, str | None]]
"""Segment and group by user."""


def run(spark: SparkSession, history: DataFrame | None, states: States, day: dt.date) -> DataFrame:
    segments = spark.createDataFrame([(u, s) for u, (s, _) in states.items()], "user_id bigint, segment string")
    groups = spark.createDataFrame([(u, g) for u, (_, g) in states.items()], "user_id bigint, customer_group string")
    return add_changes(history, segments, groups, day)


def rows(history: DataFrame) -> list[tuple[int, dt.date, str | None, str | None]]:
    return sorted((tuple(row) for row in history.collect()), key=lambda row: row[:2])


ONE: States = {1: ("VIP", "Champions"), 2: ("Casual", "New"), 3: ("Casual", "Prospects")}
TWO: States = {1: ("VIP", "Champions"), 2: ("Casual", "Loyal"), 4: ("Casual", "New")}


def test_users_get_a_row_when_segment_or_group_changes(spark: SparkSession) -> None:
    first = run(spark, None, ONE, FIRST)
    assert first.dtypes == [(c.name, c.type) for c in SEGMENT_HISTORY.with_id_type("bigint").columns]
    second = run(spark, first, TWO, SECOND)
    third = run(spark, second, {**TWO, 1: ("Loyal", "Champions"), 3: ("Casual", "New")}, THIRD)
    assert rows(third) == [
        (1, FIRST, "VIP", "Champions"),
        (1, THIRD, "Loyal", "Champions"),
        (2, FIRST, "Casual", "New"),
        (2, SECOND, "Casual", "Loyal"),
        (3, FIRST, "Casual", "Prospects"),
        (3, SECOND, None, None),  # gone
        (3, THIRD, "Casual", "New"),  # back
        (4, SECOND, "Casual", "New"),
    ]


def test_a_second_run_of_a_day_replaces_its_rows(spark: SparkSession) -> None:
    first = run(spark, None, ONE, FIRST)
    second = run(spark, first, TWO, SECOND)
    assert rows(run(spark, second, TWO, SECOND)) == rows(second)
    assert rows(run(spark, second, ONE, SECOND)) == rows(first)
    assert rows(run(spark, first, TWO, FIRST)) == rows(run(spark, None, TWO, FIRST))


def test_dates_of_following_versions() -> None:
    first = Dates.following(FIRST, {})
    assert first.as_dict() == {"date": "2020-01-01", "first_date": "2020-01-01", "previous_date": None, "since": None}
    assert Dates.following(FIRST, first.as_dict()) == first
    second = Dates.following(SECOND, first.as_dict())
    assert (second.previous, second.since) == (FIRST, FIRST)
    assert Dates.following(SECOND, second.as_dict()) == second
    later = Dates.following(dt.date(2020, 3, 1), second.as_dict())
    assert (later.previous, later.since) == (SECOND, dt.date(2020, 1, 31))


def context_of(history: DataFrame, dates: Dates, previous: CheckContext | None = None) -> CheckContext:
    empty = CheckContext(Stats(), dates.as_dict())
    changes = next(check.summary for check in SEGMENT_HISTORY_CHECKS if check.name == "history_kept")
    assert changes is not None
    summaries = [make(history, empty, lambda _: history) for make in (changes, movement)]
    stats = measure(history, (), summaries)[None]
    return CheckContext(stats, dates.as_dict(), previous=[Previous("1", previous.stats)] if previous else [])


def test_movement_counts_users_that_are_in_the_data_at_both_dates(spark: SparkSession) -> None:
    first = run(spark, None, ONE, FIRST)
    second = run(spark, first, TWO, SECOND)
    third = run(spark, second, {**TWO, 1: ("VIP", "At Risk")}, THIRD)
    dates = Dates.following(THIRD, Dates.following(SECOND, Dates.following(FIRST, {}).as_dict()).as_dict())
    context = context_of(third, dates)
    assert moved_users(context.stats, "previous") == (1, 3)  # 1 of 1, 2 and 4
    assert moved_users(context.stats, "since") == (2, 2)  # 1 and 2: 3 is gone, 4 is new
    [few] = [check for check in SEGMENT_HISTORY_CHECKS if check.name == "few_users_moved"]
    moved = "1 of 3 users (33%) moved since 2020-01-02"
    assert few.test(context) == Outcome(moved, {"share of users who moved": 0.3333}, moved)
    [note] = SEGMENT_HISTORY_NOTES
    text = note.write(context)
    assert text is not None
    assert "1 of 3 users (33 %) moved since 2020-01-02" in text
    assert "|Champions|At Risk|1|" in text
    assert "|New|Loyal|1|" in text
    assert "|(new)|New|1|" in text
    assert "|Prospects|(gone)|1|" in text
    [plot] = SEGMENT_HISTORY_PLOTS
    figure = plot.draw(context)
    assert figure is not None
    assert figure.axes[0].get_title("left") == "2 users moved from 2020-01-01 to 2020-01-09"
    assert sorted(label.get_text() for label in figure.axes[0].get_yticklabels()) == ["Champions", "New"]
    assert Image.open(io.BytesIO(png(figure))).width <= 900


def test_a_version_that_lost_rows_of_an_earlier_date_is_blocked(spark: SparkSession) -> None:
    first = run(spark, None, ONE, FIRST)
    second = run(spark, first, TWO, SECOND)
    [check] = [check for check in SEGMENT_HISTORY_CHECKS if check.name == "history_kept"]
    assert check.blocking
    dates = Dates.following(SECOND, Dates.following(FIRST, {}).as_dict())
    before = context_of(first, Dates.following(FIRST, {}))
    kept = context_of(second, dates, before)
    assert kept.stats.summaries[CHANGES] == [
        {"date": "2020-01-01", "users": 3},
        {"date": "2020-01-02", "users": 3},  # 2 moved, 3 is gone, 4 is new
    ]
    assert check.test(kept).message == ""
    lost = context_of(second.where("user_id <> 1"), dates, before)
    assert "2020-01-01 (3 rows, now 2)" in check.test(lost).message


def test_the_asset_continues_its_previous_version(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    data_dir = Path(shutil.copytree(ran[0], tmp_path / "shop"))
    lake, now = Lake(str(data_dir)), ["segmented_users", "customer_groups", "segment_history"]
    first = read(spark, data_dir, "segment_history").collect()
    buyer = read(spark, data_dir, "customer_groups").where("customer_group = 'Prospects'").first()
    assert buyer is not None
    write_day(data_dir, "2019-10-09", [event("2019-10-09 12:00:00", "purchase", user_id=buyer["user_id"], price=99.0)])
    run_graph(data_dir, "2019-10-09", select=["cleaned_events", "rejected_events", "user_features", *now])
    later = read(spark, data_dir, "segment_history")
    assert set(later.where(f"date = '{LAST_DAY}'").collect()) == set(first)
    [row] = later.where(f"date = '2019-10-09' and user_id = {buyer['user_id']}").collect()
    assert row["customer_group"] == "New"
    version = lake.latest("segment_history")
    assert version.parameters["previous_date"] == LAST_DAY
    assert {made_of.asset for made_of in version.inputs} == {"user_features", "segmented_users", "customer_groups"}
    run_graph(data_dir, "2019-10-09", select=["segment_history"])
    assert set(read(spark, data_dir, "segment_history").collect()) == set(later.collect())
