"""The inputs of a step are chosen once and recorded exactly."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ecommerce_assets.storage.inputs import StepInputs
from ecommerce_assets.storage.lake import Day, Lake
from ecommerce_assets.storage.version import Input, Stats
from ecommerce_assets_tests.helpers import put_folder, put_table, version_of

ROW = pa.table({"a": [1]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def test_a_step_reads_the_same_version_after_a_newer_commit(lake: Lake) -> None:
    first, inputs = put_folder(lake, "als_model"), StepInputs()
    assert inputs.latest(lake, "als_model", "run") == first
    second = put_folder(lake, "als_model")
    assert inputs.latest(lake, "als_model", "run") == first
    assert StepInputs().latest(lake, "als_model", "run") == second


def test_days_of_one_table_version_are_one_input(lake: Lake) -> None:
    put_table(lake, "events", days={"2019-10-01": ROW, "2019-10-02": ROW}, run_id="me")
    put_table(lake, "events", days={"2019-10-02": ROW}, run_id="other")
    newest, own = StepInputs(), StepInputs()
    newest.add_days(lake.days("events"))
    own.add_days(lake.days("events", run_id="me"))
    assert {i.version: i.partitions for i in newest.inputs} == {"1": ("2019-10-01", "2019-10-02")}
    assert {i.version: i.partitions for i in own.inputs} == {"1": ("2019-10-01",), "0": ("2019-10-02",)}


def test_the_fingerprint_is_that_of_the_rows_else_of_the_version() -> None:
    def fingerprints(version: str, content: str | None) -> list[str]:
        stats = Stats(content=content)
        read = version_of("events", version, stats=stats, days={"2019-10-01": stats})
        table, daily = StepInputs(), StepInputs()
        table.add_version(read)
        daily.add_days([Day("2019-10-01", read, "9", ())])
        return [found.fingerprint for found in (*table.inputs, *daily.inputs)]

    assert fingerprints("1", "x") == fingerprints("2", "x")
    assert set(fingerprints("1", "x")).isdisjoint(fingerprints("1", "y"))
    assert set(fingerprints("1", None)).isdisjoint(fingerprints("2", None))


def test_a_retried_step_records_each_input_once(lake: Lake) -> None:
    table = put_table(lake, "a")
    put_table(lake, "b", days={"2019-10-01": ROW})
    inputs = StepInputs()
    for _ in range(2):
        inputs.add_version(table)
        inputs.add_days(lake.days("b"))
        inputs.add_external([Input(asset="raw", fingerprint=name) for name in "xy"])
    assert [(read.asset, read.version) for read in inputs.inputs] == [
        ("a", "0"),
        ("b", "0"),
        ("raw", None),
        ("raw", None),
    ]


def test_an_artifact_can_replace_the_inputs(lake: Lake) -> None:
    inputs = StepInputs()
    inputs.add_version(put_table(lake, "a"))
    other = Input(asset="files", fingerprint="f")
    assert inputs.replaced([other]).inputs == [other]
    assert [read.asset for read in inputs.inputs] == ["a"]
