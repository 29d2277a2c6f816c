"""Drops as raw events: which files a path stands for, which day a row belongs to, and what is said where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import accepted_events, classify, count_by_day
from ecommerce_assets.events.drops import find_drops
from ecommerce_assets.events.raw import RawDataError
from ecommerce_assets_tests.helpers import RAW_TYPES, event

SCHEMA = pa.schema(list(RAW_TYPES.items()))


def drop(folder: Path, name: str, *events: dict[str, Any], schema: pa.Schema = SCHEMA) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(events), schema=schema), path)
    return path


def test_a_file_a_folder_and_a_glob_of_both(spark: SparkSession, tmp_path: Path) -> None:
    drop(tmp_path, "cleaned_data_20241201_120000.parquet/part-0.parquet", event("2019-10-01 10:00:00"))
    drop(tmp_path, "cleaned_data_20241201_120000.parquet/part-1.parquet", event("2019-10-03 10:00:00"))
    (tmp_path / "cleaned_data_20241201_120000.parquet" / "_SUCCESS").touch()
    drop(tmp_path, "cleaned_data_20241202_120000.parquet", event("2019-10-04 10:00:00"), event("2019-10-04 11:00:00"))
    for path, days in {
        "cleaned_data_20241201_120000.parquet": ("2019-10-01", "2019-10-03"),
        "cleaned_data_20241201_120000.parquet/": ("2019-10-01", "2019-10-03"),
        "cleaned_data_20241202_120000.parquet": ("2019-10-04",),
        "cleaned_data_*.parquet": ("2019-10-01", "2019-10-03", "2019-10-04"),
    }.items():
        assert find_drops(spark, f"{tmp_path}/{path}").days == days, path
    assert find_drops(spark, f"{tmp_path.parent}/*/cleaned_data_20241202*").days == ("2019-10-04",)
    both = find_drops(spark, f"file://{tmp_path}/cleaned_data_*.parquet")
    assert both.rows_by_day == {"2019-10-01": 1, "2019-10-03": 1, "2019-10-04": 2}
    [named] = both.inputs()
    assert [Path(file.path).name for file in named.files][-1] == "cleaned_data_20241202_120000.parquet"


def test_a_relative_path(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path, "data/cleaned_data_20241202_120000.parquet", event("2019-10-04 10:00:00"))
    monkeypatch.chdir(tmp_path)
    for path in ("./data/cleaned_data_*.parquet", "data/cleaned_data_20241202_120000.parquet"):
        found = find_drops(spark, path)
        assert sum(frame.count() for frame in found.frames(spark)) == 1


def test_a_row_that_several_drops_have_counts_once(spark: SparkSession, tmp_path: Path) -> None:
    shared, own = event("2019-10-01 10:00:00"), event("2019-10-01 11:00:00")
    drop(tmp_path, "cleaned_data_20241201_120000.parquet", shared)
    as_text = pa.schema([(name, pa.string()) for name in RAW_TYPES])
    texts = {name: None if value is None else str(value) for name, value in shared.items()}
    drop(tmp_path, "cleaned_data_20241202_120000.parquet", texts, schema=as_text)
    drop(tmp_path, "cleaned_data_20241203_120000.parquet", shared, own)
    found = find_drops(spark, f"{tmp_path}/cleaned_data_*.parquet")
    counts = count_by_day(classify(found.frames(spark)))
    assert counts == {"2019-10-01": {"accepted": 2, "repeats": 2, "rejected": 0}}
    assert found.rows("2019-10-01") == 4


def test_rows_without_a_readable_time_are_rejected_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    nameless = {**event("2019-10-02 10:00:00"), "event_time": None}
    drop(tmp_path, "cleaned_data_20241201_120000.parquet", event("2019-10-02 10:00:00"), nameless)
    found = find_drops(spark, f"{tmp_path}/cleaned_data_*.parquet")
    counts = count_by_day(classify(found.frames(spark)))
    assert counts["2019-10-02"]["rejected: missing event_time"] == 1
    assert found.rows("2019-10-02") == 2
    assert accepted_events(classify(found.frames(spark))).count() == 1


def test_the_zero_of_a_program_is_no_day(spark: SparkSession, tmp_path: Path) -> None:
    zero = event("1970-01-01 00:00:00")
    drop(tmp_path, "cleaned_data_20241201_120000.parquet", zero, event("2019-10-02 10:00:00"))
    found = find_drops(spark, f"{tmp_path}/cleaned_data_*.parquet")
    assert found.rows_by_day == {"2019-10-02": 2}
    counts = count_by_day(classify(found.frames(spark)))
    assert counts["2019-10-02"]["rejected: unreadable event_time"] == 1


def test_a_clock_ahead_by_a_century_makes_no_days(spark: SparkSession, tmp_path: Path) -> None:
    late = [event("2119-10-02 10:00:00"), event("9999-12-31 10:00:00")]
    drop(tmp_path, "cleaned_data_20241201_120000.parquet", event("2019-10-02 10:00:00"), *late)
    found = find_drops(spark, f"{tmp_path}/cleaned_data_*.parquet")
    assert found.days == ("2019-10-02",)
    counts = count_by_day(classify(found.frames(spark)))
    assert counts["2019-10-02"]["rejected: event outside its day"] == 2


def test_a_file_that_a_pattern_finds_twice_is_read_once(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    drop(tmp_path, "a.parquet/part-0.parquet", event("2019-10-02 10:00:00"))
    assert find_drops(spark, f"{tmp_path}/**/*.parquet").rows_by_day == {"2019-10-02": 1}


def test_errors_name_what_was_looked_for(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match=f"There are no Parquet files at {tmp_path}/none_"):
        find_drops(spark, f"{tmp_path}/none_*.parquet")
    nameless = {**event("2019-10-02 10:00:00"), "event_time": None}
    drop(tmp_path, "a.parquet", nameless)
    with pytest.raises(RawDataError, match="1 rows and none of them has a readable event_time"):
        find_drops(spark, f"{tmp_path}/a.parquet")
    pq.write_table(pa.table({"event_time": [1]}), tmp_path / "b.parquet")
    with pytest.raises(RawDataError, match=r"b\.parquet lacks the columns event_type"):
        find_drops(spark, f"{tmp_path}/b.parquet")
