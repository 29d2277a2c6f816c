"""What Dagster's UI shows of a version: in the order in which people look for it, and readable."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.manifest import FileEntry, Input
from ecommerce_assets.storage.markdown import INLINE, markdown_table
from ecommerce_assets.storage.metadata import _inputs_table, _rounded, preview

Ran = tuple[Path, dg.ExecuteInProcessResult]


def entries(ran: Ran, asset: str, node: str | None = None) -> list[str]:
    """Names of the metadata of the last materialisation, in their order."""
    made = [m for m in ran[1].asset_materializations_for_node(node or asset) if m.asset_key == dg.AssetKey(asset)]
    return list(made[-1].metadata)


def test_what_people_look_for_comes_first_and_what_machines_read_last(ran: Ran) -> None:
    machines = ["dagster/uri", "dagster/size_bytes", "dagster/column_schema", "dagster/column_lineage"]
    provenance = ["column lineage", "inputs", "version", "bytes", "seconds", "Spark application"]
    assert entries(ran, "segmented_users") == [
        *("segments at a glance", "segments in words", "changed segment", "dagster/row_count", "segments_count"),
        *("pictures", "preview", "parameters", "segments"),
        *provenance,
        *machines,
    ]
    assert entries(ran, "recommendations") == [
        *("entries by source", "dagster/row_count", "preview", "parameters"),
        *provenance,
        *machines,
    ]
    assert entries(ran, "training_metadata")[:3] == ["in short", "card", "document"]
    assert entries(ran, "als_evaluation")[:2] == ["in short", "metrics at a glance"]
    assert entries(ran, "cleaned_events", "clean_events")[0] == "dagster/partition_row_count"


def test_a_day_names_its_own_inputs_only(ran: Ran) -> None:
    for made in ran[1].asset_materializations_for_node("clean_events"):
        assert made.metadata["inputs"].value == f"|input|version|\n|:--|:--|\n|raw_events|1 file, {made.partition}|"


def test_raw_files_are_one_line() -> None:
    read = [
        Input(asset="raw_events", fingerprint="", partitions=(day,), files=(FileEntry(path=day, bytes=1),))
        for day in ("2019-10-02", "2019-10-01")
    ]
    model = Input(asset="als_model", version="20191001_000000_a", fingerprint="")
    assert _inputs_table([*read, model]).splitlines()[2:] == [
        "|als_model|20191001_000000_a|",
        "|raw_events|2 files, 2 days from 2019-10-01 to 2019-10-02|",
    ]


def test_a_preview_keeps_long_numbers_and_leaves_nulls_empty(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "category_id": pa.array([2053013552251273427, None]),
            "price": pa.array([0.1 + 0.2, 1234567.891]),
            "brand": pa.array(["a|b", None]),
            "event_time": pa.array([dt.datetime(2019, 10, 1, 12, tzinfo=dt.UTC)] * 2, pa.timestamp("us", tz="UTC")),
        }
    )
    pq.write_table(rows, tmp_path / "part-0.parquet")
    folder = Folder(str(tmp_path))
    assert (preview(folder, folder.data_files()) or "").rstrip().splitlines() == [
        "|category_id|price|brand|event_time|",
        "|--:|--:|:--|:--|",
        r"|2053013552251273427|0.3|a\|b|2019-10-01 12:00:00|",
        "||1234567.89||2019-10-01 12:00:00|",
    ]


def test_a_wide_preview_is_shown_in_a_dialog_and_a_narrow_one_in_its_place(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for columns, inline in ((3, True), (8, False)):
        pq.write_table(pa.table({f"column_{n}": ["value"] for n in range(columns)}), tmp_path / "part-0.parquet")
        assert (len(preview(folder, folder.data_files()) or "") < INLINE) == inline


def test_numbers_are_rounded_for_people() -> None:
    assert _rounded({"rmse": 3.1666834813690152, "objective": [1164843.1234], "users": 7, "none": None}) == {
        "rmse": 3.16668,
        "objective": [1164843.1],
        "users": 7,
        "none": None,
    }
    assert _rounded({"ndcg": [0.1, None, 0.2], "shares": [0.5, 0.25, 0.125, 0.125]}) == {
        "ndcg": [0.1, None, 0.2],
        "shares": "0.5, 0.25, 0.125, 0.125",
    }


def test_a_line_break_does_not_end_a_row() -> None:
    assert markdown_table(("a",), [("one\ntwo",)]) == "|a|\n|:--|\n|one two|"
