"""OpenLineage events have the metadata of a version, with the types of the client's model."""

from __future__ import annotations

import typing
import uuid
from datetime import timedelta
from typing import Any

import attr
import pytest
from openlineage.client.serde import Serde
from pydantic import ConfigDict, TypeAdapter

from ecommerce_assets.openlineage.events import dataset_name, run_events
from ecommerce_assets.storage.version import FileEntry, Input, Stats, Version
from ecommerce_assets_tests.openlineage.server import FAILED, NOON, PASSED, RUN, SHOP, TABLE, a_version

DAYS = ("2019-10-01", "2019-10-02")


def assert_typed(value: Any) -> None:
    """Asserts the types of all fields, which the client declares and does not check."""
    if attr.has(type(value)):
        hints = typing.get_type_hints(type(value))
        for name in (field.name for field in attr.fields(type(value))):
            kind = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
            kind.validate_python(getattr(value, name), strict=True)
            assert_typed(getattr(value, name))
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            assert_typed(part)


def sent(version: Version, description: str | None = None) -> list[dict[str, Any]]:
    """Returns the events as JSON."""
    events = run_events(version, SHOP, TABLE, description)
    assert_typed(events)
    return [Serde.to_dict(event) for event in events]


def assertions(event: dict[str, Any]) -> list[dict[str, Any]]:
    [checked] = event["inputs"]
    found: list[dict[str, Any]] = checked["inputFacets"]["dataQualityAssertions"]["assertions"]
    return found


def days_of(condition: dict[str, Any]) -> list[str]:
    return [part["dimensions"]["event_date"] for part in condition["partitions"]]


def test_a_version_is_a_run_of_its_asset_and_one_of_its_checks() -> None:
    events = sent(a_version())
    start, end, checks_start, checks_end = events
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("user_features", "START"),
        ("user_features", "COMPLETE"),
        ("user_features.checks", "START"),
        ("user_features.checks", "COMPLETE"),
    ]
    assert start["run"]["runId"] == end["run"]["runId"] != checks_start["run"]["runId"] == checks_end["run"]["runId"]
    assert {event["job"]["namespace"] for event in events} == {"ecommerce_assets"}
    assert start["eventTime"] == (NOON - timedelta(seconds=2)).isoformat()
    assert end["eventTime"] == (NOON + timedelta(seconds=8)).isoformat()
    assert end["job"]["facets"]["jobType"]["processingType"] == "BATCH"
    facets = end["run"]["facets"]
    assert facets["parent"]["run"]["runId"] == RUN
    assert facets["externalQuery"]["externalQueryId"] == "local-17"
    parameters = {p["key"]: p["value"] for p in facets["executionParameters"]["parameters"]}
    assert parameters == {"k": "5", "exclude": "purchased"}
    assert "errorMessage" not in facets
    assert checks_end["run"]["facets"]["parent"]["run"]["runId"] == end["run"]["runId"]
    assert assertions(checks_end) == [
        {"assertion": "no_nulls", "name": "no_nulls", "success": True, "severity": "error"}
    ]


def test_the_output_has_version_schema_lineage_and_size() -> None:
    [output] = sent(a_version(), "One row per user.")[1]["outputs"]
    assert (output["namespace"], output["name"]) == ("s3://shop", "data/lake/user_features")
    facets = output["facets"]
    assert facets["version"]["datasetVersion"] == "12"
    assert facets["dataSource"]["name"] == "s3://shop"
    assert facets["documentation"]["description"] == "One row per user."
    assert facets["schema"]["fields"] == [
        {"name": "user_id", "type": "bigint", "description": "The user.", "ordinal_position": 1},
        {"name": "recency", "type": "int", "description": "Days since the last event.", "ordinal_position": 2},
    ]
    source = {"namespace": "s3://shop", "name": "data/lake/cleaned_events", "transformations": []}
    assert {name: field["inputFields"] for name, field in facets["columnLineage"]["fields"].items()} == {
        "user_id": [{**source, "field": "user_id"}],
        "recency": [{**source, "field": "event.time"}],
    }
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (3, 30)


def test_inputs_are_exactly_the_versions_and_days_that_were_read() -> None:
    start, end, *_ = sent(a_version())
    assert start["inputs"] == end["inputs"]
    assert {read["name"] for read in end["inputs"]} == {"data/lake/cleaned_events"}
    assert {
        read["facets"]["version"]["datasetVersion"]: days_of(read["inputFacets"]["subset"]["inputCondition"])
        for read in end["inputs"]
    } == {"1": ["2019-10-01", "2019-10-02"], "2": ["2019-10-03"]}


def test_raw_files_are_one_input_without_a_version() -> None:
    files = (FileEntry(path="a.parquet", bytes=5),)
    raw = tuple(Input(asset="raw_events", partitions=(day,), fingerprint=day, files=files) for day in DAYS)
    [source] = sent(a_version(asset="cleaned_events", inputs=raw))[1]["inputs"]
    assert source["name"] == "data/raw/events"
    assert days_of(source["inputFacets"]["subset"]["inputCondition"]) == list(DAYS)
    assert "version" not in source["facets"]


def test_a_blocked_version_is_a_failed_run_without_an_output_version() -> None:
    _, end, _, checks_end = sent(a_version(checks=(PASSED, FAILED)))
    assert (end["eventType"], checks_end["eventType"]) == ("FAIL", "FAIL")
    for event in (end, checks_end):
        assert "unique_key: 2 of 3 rows repeat a user_id" in event["run"]["facets"]["errorMessage"]["message"]
    assert "version" not in end["outputs"][0]["facets"]
    assert not end["outputs"][0].get("outputFacets")
    assert [(a["name"], a["success"], a.get("actual")) for a in assertions(checks_end)] == [
        ("no_nulls", True, None),
        ("unique_key", False, "2 of 3 rows repeat a user_id"),
    ]


def test_a_warning_fails_no_run() -> None:
    _, end, _, checks_end = sent(a_version(checks=(FAILED.model_copy(update={"blocking": False}),)))
    assert (end["eventType"], checks_end["eventType"]) == ("COMPLETE", "COMPLETE")
    assert [(a["success"], a["severity"]) for a in assertions(checks_end)] == [(False, "warn")]


def test_a_daily_version_has_its_days_and_its_failed_days() -> None:
    checks = [PASSED.model_copy(update={"partition": day}) for day in DAYS]
    warning = FAILED.model_copy(update={"blocking": False})
    checks += [warning.model_copy(update={"partition": DAYS[1]})]
    checks += [warning.model_copy(update={"partition": DAYS[0], "passed": True, "message": ""})]
    stats = {day: Stats(rows=10, bytes=100) for day in DAYS}
    _, end, _, checks_end = sent(a_version(asset="cleaned_events", days=stats, checks=tuple(checks)))
    assert days_of(end["outputs"][0]["outputFacets"]["subset"]["outputCondition"]) == list(DAYS)
    assert [(a["name"], a["success"], a.get("params")) for a in assertions(checks_end)] == [
        ("no_nulls", True, None),
        ("unique_key", False, {"event_date": "2019-10-02"}),
    ]


def test_facets_without_a_value_are_omitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shop")
    nothing = {"columns": None, "column_lineage": {}, "checks": (), "parameters": {}, "spark_application_id": None}
    start, end = sent(a_version(asset="als_model", kind="model", run_id="by hand", stats=Stats(bytes=2), **nothing))
    assert start["job"]["namespace"] == "shop"
    assert not start["run"].get("facets")
    assert set(end["outputs"][0]["facets"]) == {"version", "dataSource"}
    assert "rowCount" not in end["outputs"][0]["outputFacets"]["outputStatistics"]


def test_run_ids_follow_from_run_asset_and_folder() -> None:
    def run_id(version: Version) -> str:
        return run_events(version, SHOP)[0].run.runId

    different = [a_version(), a_version(folder="other"), a_version(asset="other"), a_version(run_id=str(uuid.uuid4()))]
    assert run_id(a_version()) == run_id(a_version(version="13"))
    assert len({run_id(version) for version in different}) == 4


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/lake/a", ("file", "/data/lake/a")),
        ("file:///data/lake/a", ("file", "/data/lake/a")),
        ("/data #1/lake?/a", ("file", "/data #1/lake?/a")),
        ("s3a://shop/data/lake/a", ("s3://shop", "data/lake/a")),
        ("s3://shop/lake/a", ("s3://shop", "lake/a")),
        ("gs://shop/lake/a", ("gs://shop", "lake/a")),
        ("hdfs://namenode:8020/data/lake/a", ("hdfs://namenode:8020", "/data/lake/a")),
        ("abfss://box@shop.dfs.core.windows.net/lake/a", ("abfss://box@shop.dfs.core.windows.net", "/lake/a")),
    ],
)
def test_dataset_names_follow_the_specification(uri: str, expected: tuple[str, str]) -> None:
    assert dataset_name(uri) == expected
