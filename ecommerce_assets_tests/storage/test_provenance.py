"""What a step reads is chosen once and recorded exactly."""

from __future__ import annotations

from pathlib import Path

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.provenance import StepReads
from ecommerce_assets_tests.storage.test_lake import put


def test_a_step_stays_with_the_version_that_it_chose_first(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "als_model", "m1")
    reads = StepReads()
    assert reads.latest(lake, "als_model", "run").version == "m1"
    put(lake, "als_model", "m2", minutes=1)
    assert reads.latest(lake, "als_model", "run").version == "m1"
    assert StepReads().latest(lake, "als_model", "run").version == "m2"


def test_days_are_recorded_by_the_version_that_served_them(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "cleaned_events", "v1", days=["2019-10-01", "2019-10-02"])
    put(lake, "cleaned_events", "v2", minutes=1, days=["2019-10-02"])
    reads = StepReads()
    reads.add_days(lake.days("cleaned_events"))
    assert {i.version: i.partitions for i in reads.inputs} == {"v1": ("2019-10-01",), "v2": ("2019-10-02",)}


def test_a_step_that_is_tried_again_names_each_input_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    table, daily = put(lake, "a", "v1"), put(lake, "b", "v1", days=["2019-10-01"])
    reads = StepReads()
    for _ in range(2):
        reads.add_version(table)
        reads.add_days(lake.days("b"))
    assert [(step.asset, step.version) for step in reads.inputs] == [("a", "v1"), ("b", daily.version)]
