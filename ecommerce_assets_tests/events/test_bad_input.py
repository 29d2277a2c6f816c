"""Each kind of bad input in the catalogue does what the catalogue says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day
from ecommerce_assets.events.landing import LandingError, SourceSummary
from ecommerce_assets.events.raw import RawDataError, RawEvents, find_raw_events
from ecommerce_assets_tests.events.bad_input import (
    FILES,
    FIRST_ODD_DAY,
    LINES,
    PARTITIONS,
    UNREADABLE_PARTITIONS,
    VALUES,
    Kind,
)
from ecommerce_assets_tests.events.landing_files import HEADER, ROW, csv_file, days, events_table, land_one


def named(kinds: list[Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


@named(FILES)
def test_files_that_do_not_land(tmp_path: Path, kind: Kind) -> None:
    path = kind.made(tmp_path)
    with pytest.raises(LandingError) as error:
        land_one(path, tmp_path / "shop")
    assert str(error.value) == kind.sees.replace("FILE", str(path))
    assert not list(tmp_path.glob("shop/raw/events/*"))


@named(LINES)
def test_lines_that_are_no_rows(tmp_path: Path, kind: Kind) -> None:
    path = csv_file(tmp_path, ROW)
    path.write_bytes(path.read_bytes() + kind.made)
    summary = land_one(path, tmp_path / "shop")
    (source,) = summary.sources
    assert kind.sees in str(summary)
    is_row = kind.goes != "no row"
    assert source.rows_read == 1 + is_row == source.rows_landed + source.unreadable_lines.count
    assert source.unreadable_lines.count == (kind.goes == "listed as unreadable")
    assert source.short_lines.count == (kind.goes == "landed with nulls")
    if source.unreadable_file:
        assert len(source.unreadable_file.read_text().splitlines()) == 2


@dataclass(frozen=True)
class Cleaned:
    source: SourceSummary
    rows: dict[str, list[Row]]
    """By the kind's name."""
    counts: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def cleaned_values(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Cleaned:
    """Every kind of value in one file, each in the row whose session is its name; landed, and cleaned."""
    folder = tmp_path_factory.mktemp("values")
    names = HEADER.split(",")
    lines = []
    for number, kind in enumerate(VALUES):
        # A product of its own for each, so that none is a repeat of another one.
        usual = {**dict(zip(names, ROW.split(","), strict=True)), "product_id": str(number + 1)}
        line = ",".join({**usual, "user_session": kind.name, **kind.made}[name] for name in names)
        lines += [line, line] if kind.goes == "accepted once" else [line]
    summary = land_one(csv_file(folder, *lines), folder / "shop")
    frames = find_raw_events(str(folder / "shop"), days(folder / "shop")).frames(spark)
    classified = classify(frames).cache()
    rows: dict[str, list[Row]] = {}
    for row in classified.collect():
        rows.setdefault((row["original"] or row)["user_session"], []).append(row)
    return Cleaned(summary.sources[0], rows, count_by_day(classified))


@named(VALUES)
def test_values_that_cleaning_judges(cleaned_values: Cleaned, kind: Kind) -> None:
    (row,) = cleaned_values.rows[kind.name]
    if kind.goes == "rejected":
        assert row["reject_reason"] == kind.sees
        assert all(row["original"][name] == (value.strip('"') or None) for name, value in kind.made.items())
        return
    assert row["reject_reason"] is None
    assert row["copies"] == (2 if kind.goes == "accepted once" else 1)
    for name in kind.made:
        assert f"{name} is {'null' if row[name] is None else row[name]}" == kind.sees


def test_no_value_is_lost(cleaned_values: Cleaned) -> None:
    source = cleaned_values.source
    assert source.rows_read == source.rows_landed == len(VALUES) + 1
    (counts,) = cleaned_values.counts.values()
    assert counts["accepted"] + counts["rejected"] + counts["repeats"] == source.rows_landed
    assert counts["repeats"] == 1
    assert counts["rejected"] == sum(kind.goes == "rejected" for kind in VALUES)


@pytest.fixture(scope="module")
def odd_partitions(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RawEvents, dict[str, dict[str, int]]]:
    """Each kind of partition as a day of its own, cleaned in one job, and one day that nobody made."""
    data_dir = tmp_path_factory.mktemp("partitions")
    for day, kind in _days_of(PARTITIONS):
        folder = data_dir / f"raw/events/event_date={day}"
        folder.mkdir(parents=True)
        if (rows := kind.made(day)) is not None:
            pq.write_table(rows, folder / "part.parquet")
        (folder / "_temporary").mkdir()
        pq.write_table(events_table(100), folder / "_temporary/part.parquet")
    asked = [str(FIRST_ODD_DAY + timedelta(days=number)) for number in range(len(PARTITIONS) + 1)]
    raw = find_raw_events(str(data_dir), asked)
    return raw, count_by_day(classify(raw.frames(spark)))


def _days_of(kinds: list[Kind]) -> Iterator[tuple[date, Kind]]:
    for number, kind in enumerate(kinds):
        yield FIRST_ODD_DAY + timedelta(days=number), kind


@pytest.mark.parametrize(("day", "kind"), list(_days_of(PARTITIONS)), ids=[kind.name for kind in PARTITIONS])
def test_partitions_that_others_wrote(
    odd_partitions: tuple[RawEvents, dict[str, dict[str, int]]], day: date, kind: Kind
) -> None:
    raw, by_day = odd_partitions
    counts = by_day.get(str(day), {"accepted": 0, "repeats": 0, "rejected": 0})
    assert raw.rows(str(day)) == counts["accepted"] + counts["rejected"] + counts["repeats"]
    assert counts["accepted"] == (kind.goes == "accepted")
    assert counts["rejected"] == (kind.goes == "rejected")
    if kind.sees:
        assert counts[f"rejected: {kind.sees}"] == 1


def test_a_day_that_is_absent_from_a_range(odd_partitions: tuple[RawEvents, dict[str, dict[str, int]]]) -> None:
    raw, by_day = odd_partitions
    absent = str(FIRST_ODD_DAY + timedelta(days=len(PARTITIONS)))
    assert raw.absent == (absent,)
    assert absent not in by_day


@named(UNREADABLE_PARTITIONS)
def test_partitions_that_stop_a_run(tmp_path: Path, kind: Kind) -> None:
    folder = tmp_path / "raw/events/event_date=2019-10-01"
    folder.mkdir(parents=True)
    path = kind.made(folder)
    with pytest.raises(RawDataError) as error:
        find_raw_events(str(tmp_path), ["2019-10-01"])
    said = str(error.value).replace("file://", "").replace(str(path), "FILE").replace(str(folder), "DIR")
    assert said.startswith(kind.sees.replace("file://", ""))
