"""Dagster metadata of a version."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.markdown import INLINE
from ecommerce_assets.storage.metadata import preview, report
from ecommerce_assets.storage.version import FileEntry, Input, Stats
from ecommerce_assets_tests.helpers import version_of

TABLE = TableSpec.of(ColumnSpec("user_id", "id", "The user.", key=True), ColumnSpec("views", "int", "Number of views."))


def reported(table: TableSpec | None = None, **fields: Any) -> dict[str, Any]:
    """Returns the metadata of a version's materialisation, by name, in order."""
    context = dg.build_output_context(asset_key=dg.AssetKey("users"))
    texts = {"plots": "", "in words": "note", "groups": "|group|\n|:--|"}
    report(context, version_of("users", "v1", **fields), "/lake/users", table, texts, emit_days=False)
    return {name: entry.value for name, entry in context.get_logged_metadata().items()}


def test_a_version_has_its_results_texts_lineage_and_schema() -> None:
    source = {"columns": {"user_id": "bigint", "views": "int"}, "column_lineage": {"views": ("events.event_type",)}}
    found = reported(TABLE, stats=Stats(rows=3, results={"users": 3}), parameters={"k": 2}, **source)
    assert (found["dagster/row_count"], found["users"], found["parameters"]) == (3, 3, {"k": 2})
    assert list(found)[:2] == ["in words", "groups"]
    assert (found["in words"], "plots" in found) == ("note", False)
    assert len(found["groups"]) == INLINE, "behind a link: the column of values cuts tables off"
    assert found["column lineage"].rstrip().splitlines()[2:] == ["|views|events: event_type|"]
    user, views = found["dagster/column_schema"].columns
    assert (user.type, user.constraints.unique, user.constraints.nullable) == ("bigint", True, False)
    assert (views.type, views.constraints.unique, views.constraints.nullable) == ("int", False, True)
    assert "dagster/row_count" not in reported(kind="document")


def test_columns_with_the_same_sources_share_a_row_of_the_lineage() -> None:
    lineage = {
        "user_id": ("events.user_id",),
        "score": ("model.factors", "events.price", "events.user_id"),
        "source": ("events.price", "events.user_id", "model.factors"),
        "constant": (),
    }
    table = reported(column_lineage=lineage)["column lineage"]
    assert table.rstrip().splitlines()[2:] == [
        "|user_id|events: user_id|",
        "|score, source|events: price, user_id; model: factors|",
        "|constant|no column|",
    ]


def test_a_day_has_its_own_rows_and_inputs_only(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    made = ran[1].asset_materializations_for_node("clean_events")
    assert len({event.partition for event in made}) == 8
    for event in made:
        inputs = str(event.metadata["inputs"].value).rstrip()
        assert inputs == f"|input|version|\n|:--|:--|\n|raw_events|1 file, {event.partition}|"


def test_the_newest_day_has_the_rows_of_all_days(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    made = ran[1].asset_materializations_for_node("clean_events")
    cleaned = {event.partition: event.metadata for event in made if event.asset_key == dg.AssetKey("cleaned_events")}
    rows = [int(str(metadata["dagster/partition_row_count"].value)) for metadata in cleaned.values()]
    totals = {
        day: metadata["dagster/row_count"].value for day, metadata in cleaned.items() if "dagster/row_count" in metadata
    }
    assert totals == {max(cleaned, key=str): sum(rows)}
    assert sum(rows) > 4_000


def test_raw_files_share_a_line_of_the_inputs() -> None:
    files = (FileEntry(path="a", bytes=1),)
    read = [
        Input(asset="raw_events", fingerprint="", partitions=(day,), files=files)
        for day in ("2019-10-02", "2019-10-01")
    ]
    events = Input(asset="cleaned_events", version="4", fingerprint="", partitions=("2019-10-01",))
    assert reported(inputs=(*read, events))["inputs"].rstrip().splitlines()[2:] == [
        "|cleaned_events|4, 2019-10-01|",
        "|raw_events|2 files, 2 days from 2019-10-01 to 2019-10-02|",
    ]


def test_results_are_rounded_and_nested_ones_are_one_entry() -> None:
    results = {
        "rmse": 3.1666834813690152,
        "objective": [1164843.1234],
        "last objective": np.float64(1164843.1234),
        "users": np.int64(3),
        "none": None,
        "nan": {"rmse": float("inf")},
        "ndcg": [0.1, None, 0.2, 0.3],
        "shares": [0.5, 0.25, 0.125, 0.125],
    }
    found = reported(stats=Stats(results=results))
    assert {name: found[name] for name in results if name in found} == {
        "rmse": 3.16668,
        "objective": [1164843.1],
        "last objective": 1164843.1,
        "users": 3,
        "shares": "0.5, 0.25, 0.125, 0.125",
    }
    assert found["other results"] == {"nan": {"rmse": float("inf")}, "ndcg": [0.1, None, 0.2, 0.3]}
    # Dagster stores no numbers of NumPy.
    assert (type(found["last objective"]), type(found["users"])) == (float, int)


def test_a_preview_keeps_long_numbers_and_leaves_nulls_empty(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "category_id": pa.array([2053013552251273427, None]),
            "price": pa.array([0.1 + 0.2, 1234567.891]),
            "score": pa.array([0.0611736, 2.0]),
            "brand": pa.array(["a|b", None]),
            "event_time": pa.array([dt.datetime(2019, 10, 1, 12, tzinfo=dt.UTC)] * 2, pa.timestamp("us", tz="UTC")),
        }
    )
    pq.write_table(rows, tmp_path / "part-0.parquet", write_page_checksum=True)
    folder = Folder(str(tmp_path))
    assert preview(folder, ["part-0.parquet"]).rstrip().splitlines() == [
        "|category_id|price|score|brand|event_time|",
        "|--:|--:|--:|:--|:--|",
        r"|2053013552251273427|0.3|0.06117|a\|b|2019-10-01 12:00:00|",
        "||1234567.89|2||2019-10-01 12:00:00|",
    ]
    pq.write_table(rows.slice(0, 0), tmp_path / "part-1.parquet")
    assert (preview(folder, []), preview(folder, ["part-1.parquet"])) == ("", "no rows")
