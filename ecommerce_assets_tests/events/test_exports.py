"""Exports as raw events: the files that a path matches, and the day of each event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day
from ecommerce_assets.events.exports import ExportedEvents, find_exports
from ecommerce_assets.events.raw import RawDataError
from ecommerce_assets_tests.helpers import RAW_TYPES, event

SCHEMA = pa.schema(list(RAW_TYPES.items()))


def export(folder: Path, name: str, *events: dict[str, Any], schema: pa.Schema = SCHEMA) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(events), schema=schema), path)
    return path


def find(path: str, tmp_path: Path) -> ExportedEvents:
    return find_exports(path, str(tmp_path.parent / f"{tmp_path.name}-parsed"), "bigint")


def events_of(spark: SparkSession, exports: ExportedEvents) -> DataFrame:
    return exports.parsed("", "bigint").frame(spark)


def test_path_may_be_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    export(tmp_path, "cleaned_data_20241201_120000.parquet/part-0.parquet", event("2019-10-01 10:00:00"))
    export(tmp_path, "cleaned_data_20241201_120000.parquet/part-1.parquet", event("2019-10-03 10:00:00"))
    (tmp_path / "cleaned_data_20241201_120000.parquet" / "_SUCCESS").touch()
    export(tmp_path, "cleaned_data_20241202_120000.parquet", event("2019-10-04 10:00:00"), event("2019-10-04 11:00:00"))
    for path, days in {
        "cleaned_data_20241201_120000.parquet": ("2019-10-01", "2019-10-03"),
        "cleaned_data_20241201_120000.parquet/": ("2019-10-01", "2019-10-03"),
        "cleaned_data_20241202_120000.parquet": ("2019-10-04",),
        "cleaned_data_*.parquet": ("2019-10-01", "2019-10-03", "2019-10-04"),
    }.items():
        assert find(f"{tmp_path}/{path}", tmp_path).days == days, path
    assert find(f"{tmp_path.parent}/*/cleaned_data_20241202*", tmp_path).days == ("2019-10-04",)
    both = find(f"file://{tmp_path}/cleaned_data_*.parquet", tmp_path)
    assert both.rows_by_day == {"2019-10-01": 1, "2019-10-03": 1, "2019-10-04": 2}
    [named] = both.inputs()
    assert [Path(file.path).name for file in named.files][-1] == "cleaned_data_20241202_120000.parquet"


def test_path_may_be_relative(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path, "data/cleaned_data_20241202_120000.parquet", event("2019-10-04 10:00:00"))
    monkeypatch.chdir(tmp_path)
    for path in ("./data/cleaned_data_*.parquet", "data/cleaned_data_20241202_120000.parquet"):
        exports = find(path, tmp_path)
        assert events_of(spark, exports).count() == 1


def test_row_in_several_exports_counts_once(spark: SparkSession, tmp_path: Path) -> None:
    shared, single = event("2019-10-01 10:00:00"), event("2019-10-01 11:00:00")
    export(tmp_path, "cleaned_data_20241201_120000.parquet", shared)
    as_text = pa.schema([(name, pa.string()) for name in RAW_TYPES])
    texts = {name: None if value is None else str(value) for name, value in shared.items()}
    export(tmp_path, "cleaned_data_20241202_120000.parquet", texts, schema=as_text)
    export(tmp_path, "cleaned_data_20241203_120000.parquet", shared, single)
    exports = find(f"{tmp_path}/cleaned_data_*.parquet", tmp_path)
    counts = count_by_day(classify(events_of(spark, exports)))
    assert counts == {"2019-10-01": {"accepted": 2, "repeats": 2, "rejected": 0}}
    assert exports.rows("2019-10-01") == 4


def test_rows_without_a_plausible_time_are_rejected_on_the_first_day(spark: SparkSession, tmp_path: Path) -> None:
    good = event("2019-10-02 10:00:00")
    times = ["1970-01-01 00:00:00", "2119-10-02 10:00:00", "9999-12-31 10:00:00"]
    bad = [{**good, "event_time": None}, *(event(time) for time in times)]
    export(tmp_path, "cleaned_data_20241201_120000.parquet", *bad, good)
    exports = find(f"{tmp_path}/cleaned_data_*.parquet", tmp_path)
    assert exports.rows_by_day == {"2019-10-02": 5}
    assert count_by_day(classify(events_of(spark, exports)))["2019-10-02"] == {
        "accepted": 1,
        "repeats": 0,
        "rejected": 4,
        "rejected: missing event_time": 1,
        "rejected: unreadable event_time": 1,
        "rejected: event outside its day": 2,
    }


def test_file_that_a_pattern_matches_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    export(tmp_path, "a.parquet/part-0.parquet", event("2019-10-02 10:00:00"))
    assert find(f"{tmp_path}/**/*.parquet", tmp_path).rows_by_day == {"2019-10-02": 1}


def test_errors_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match=f"There are no Parquet files at {tmp_path}/none_"):
        find(f"{tmp_path}/none_*.parquet", tmp_path)
    nameless = {**event("2019-10-02 10:00:00"), "event_time": None}
    export(tmp_path, "a.parquet", nameless)
    with pytest.raises(RawDataError, match=r"None of the 1 rows .* readable event_time"):
        find(f"{tmp_path}/a.parquet", tmp_path)
    pq.write_table(pa.table({"event_time": [1]}), tmp_path / "b.parquet")
    with pytest.raises(RawDataError, match=r"b\.parquet lacks the columns event_type"):
        find(f"{tmp_path}/b.parquet", tmp_path)
