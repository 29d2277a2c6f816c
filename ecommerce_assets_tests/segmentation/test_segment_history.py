"""The history of a few users over several runs."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.segmentation import assets
from ecommerce_assets.segmentation.checks import SEGMENT_HISTORY_CHECKS
from ecommerce_assets.segmentation.customer_plots import SEGMENT_HISTORY_NOTES, SEGMENT_HISTORY_PLOTS
from ecommerce_assets.segmentation.segment_history import (
    CHANGES,
    SEGMENT_HISTORY,
    Dates,
    add_changes,
    changes_by_date,
    moved_users,
    movement,
)
from ecommerce_assets.storage.checks import CheckContext, Outcome, Previous, measure
from ecommerce_assets.storage.io_managers import ParquetIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import put_table, run_graph

FIRST, SECOND, THIRD = (dt.date(2020, 1, day) for day in (1, 2, 9))

States = Mapping[int, tuple[str, str | None]]
"""Segment and group by user."""

ONE: States = {1: ("VIP", "Champions"), 2: ("Casual", "New"), 3: ("Casual", "Prospects")}
TWO: States = {1: ("VIP", "Champions"), 2: ("Casual", "Loyal"), 4: ("Casual", "New")}
THREE: States = {1: ("VIP", "At Risk"), 2: ("Casual", "Loyal"), 3: ("Casual", "New"), 4: ("Casual", "New")}

Rows = list[tuple[int, dt.date, str | None, str | None]]


class Histories(NamedTuple):
    """The history after each of three runs."""

    first: DataFrame
    second: DataFrame
    third: DataFrame


def extend(history: DataFrame | None, spark: SparkSession, states: States, day: dt.date) -> DataFrame:
    segments = spark.createDataFrame([(u, s) for u, (s, _) in states.items()], "user_id bigint, segment string")
    groups = spark.createDataFrame([(u, g) for u, (_, g) in states.items()], "user_id bigint, customer_group string")
    changed = add_changes(history, segments, groups, day)
    return spark.createDataFrame(changed.collect(), changed.schema)  # so that the next run computes only its own step


@pytest.fixture(scope="module")
def histories(spark: SparkSession) -> Histories:
    first = extend(None, spark, ONE, FIRST)
    second = extend(first, spark, TWO, SECOND)
    return Histories(first, second, extend(second, spark, THREE, THIRD))


def rows_of(history: DataFrame) -> Rows:
    return sorted((tuple(row) for row in history.collect()), key=lambda row: row[:2])


def dates_of(*days: dt.date) -> Dates:
    dates = Dates.following(days[0], {})
    for day in days[1:]:
        dates = Dates.following(day, dates.as_dict())
    return dates


def test_users_get_a_row_when_segment_or_group_changes(histories: Histories) -> None:
    assert histories.third.dtypes == [(c.name, c.type) for c in SEGMENT_HISTORY.with_id_type("bigint").columns]
    assert rows_of(histories.third) == [
        (1, FIRST, "VIP", "Champions"),
        (1, THIRD, "VIP", "At Risk"),
        (2, FIRST, "Casual", "New"),
        (2, SECOND, "Casual", "Loyal"),
        (3, FIRST, "Casual", "Prospects"),
        (3, SECOND, None, None),  # not in the data
        (3, THIRD, "Casual", "New"),  # in the data again
        (4, SECOND, "Casual", "New"),
    ]


def test_a_second_run_of_a_day_replaces_its_rows(spark: SparkSession, histories: Histories) -> None:
    assert rows_of(extend(histories.second, spark, TWO, SECOND)) == rows_of(histories.second)
    assert rows_of(extend(histories.second, spark, ONE, SECOND)) == rows_of(histories.first)


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
    summaries = [summary(history, empty, lambda _: history) for summary in (changes_by_date, movement)]
    stats = measure(history, (), summaries)[None]
    return CheckContext(stats, dates.as_dict(), previous=[Previous("1", previous.stats)] if previous else [])


def test_movement_counts_users_that_are_in_the_data_at_both_dates(histories: Histories) -> None:
    context = context_of(histories.third, dates_of(FIRST, SECOND, THIRD))
    assert moved_users(context.stats, "previous") == (1, 3)  # 1 of 1, 2 and 4
    assert moved_users(context.stats, "since") == (3, 3)  # 1, 2 and 3; 4 is new
    [check] = [check for check in SEGMENT_HISTORY_CHECKS if check.name == "few_users_moved"]
    moved = "1 of 3 users (33.3 %) moved since 2020-01-02"
    assert check.test(context) == Outcome(moved, {"share of users who moved": 0.3333}, moved)
    [note] = SEGMENT_HISTORY_NOTES
    text = note.write(context)
    assert text is not None
    assert "1 of 3 users (33.3 %) moved since 2020-01-02" in text
    for row in ("|Champions|At Risk|1|", "|New|Loyal|1|", "|Prospects|New|1|", "|(new)|New|1|"):
        assert row in text
    [plot] = SEGMENT_HISTORY_PLOTS
    figure = plot.draw(context)
    assert figure is not None
    assert figure.axes[0].get_title("left") == "3 users moved from 2020-01-01 to 2020-01-09"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Champions", "New", "Prospects"]


def test_a_version_that_lost_rows_of_an_earlier_date_is_blocked(histories: Histories) -> None:
    [check] = [check for check in SEGMENT_HISTORY_CHECKS if check.name == "history_kept"]
    assert check.blocking
    previous = context_of(histories.first, dates_of(FIRST))
    kept = context_of(histories.second, dates_of(FIRST, SECOND), previous)
    assert kept.stats.summaries[CHANGES] == [
        {"date": "2020-01-01", "users": 3},
        {"date": "2020-01-02", "users": 3},  # 2 moved, 3 is gone, 4 is new
    ]
    assert check.test(kept) == Outcome(checked="1 earlier dates with 3 rows, as in the previous version")
    lost = context_of(histories.second.where("user_id <> 1"), dates_of(FIRST, SECOND), previous)
    outcome = check.test(lost)
    assert isinstance(outcome, Outcome)
    assert "2020-01-01 (3 rows, now 2)" in outcome.message


def run(lake: Lake, states: States, reference_date: dt.date) -> Rows:
    """Publishes the inputs without Spark, runs the asset, and returns its rows."""
    users: dict[str, Any] = {"user_id": list(states)}
    results = {"reference_date": f"{reference_date}T12:00:00+00:00"}
    put_table(lake, "user_features", pa.table(users), stats=Stats(rows=len(states), results=results))
    segments, groups = zip(*states.values(), strict=True)
    put_table(lake, "segmented_users", pa.table({**users, "segment": segments}))
    put_table(lake, "customer_groups", pa.table({**users, "customer_group": groups}))
    run_graph(lake.data.path, "2019-10-01", select=["segment_history"])
    return sorted(pl.read_delta(f"{lake.root.uri}/segment_history").rows(), key=lambda row: row[:2])


def test_the_asset_continues_its_previous_version(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    first = run(lake, ONE, FIRST)
    second = run(lake, TWO, SECOND)
    assert [row for row in second if row[1] == FIRST] == first
    assert [row for row in second if row[1] == SECOND] == [
        (2, SECOND, "Casual", "Loyal"),
        (3, SECOND, None, None),
        (4, SECOND, "Casual", "New"),
    ]
    version = lake.latest("segment_history")
    assert version.parameters["previous_date"] == "2020-01-01"
    assert {each.asset for each in version.inputs} == {"user_features", "segmented_users", "customer_groups"}
    assert run(lake, THREE, FIRST) == second, "data that end earlier change nothing"


@pytest.mark.parametrize(("owner", "name"), [(assets, "add_changes"), (ParquetIOManager, "write")])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_run_keeps_the_rows_of_another_run_at_the_same_time(
    is_first: bool,
    owner: object,
    name: str,
    spark: SparkSession,
    histories: Histories,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other run publishes after the step has read the history, or after it has written its files."""
    lake, function = Lake(str(tmp_path)), getattr(owner, name)
    if not is_first:
        run(lake, ONE, FIRST)

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, name, function)
        result = function(*arguments)
        run(lake, *((ONE, FIRST) if is_first else (TWO, SECOND)))
        return result

    monkeypatch.setattr(owner, name, overtaken)
    rows = run(lake, *((TWO, SECOND) if is_first else (THREE, THIRD)))
    assert rows == rows_of(histories.second if is_first else histories.third)
