"""What is sent as OpenLineage events fits the client's own model, and says what the manifest says."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from ecommerce_assets.storage.manifest import FileEntry, Input, Manifest, Partition
from ecommerce_assets.storage.openlineage_events import dataset_name, run_events
from ecommerce_assets_tests.storage.openlineage_server import (
    FAILED,
    NOON,
    PASSED,
    RUN,
    SHOP,
    Server,
    made,
    sent,
    status,
)
from ecommerce_assets_tests.storage.test_lake import Warnings

pytestmark = pytest.mark.usefixtures("unconfigured")


def test_a_version_becomes_a_run_of_its_asset_and_one_of_its_audits(
    serve: Callable[..., Server], warnings: Warnings
) -> None:
    events = sent(serve(status(201)), warnings, made(), description="One row per user.")
    kinds = [(event["job"]["name"], event["eventType"]) for event in events]
    assert kinds == [
        ("user_features", "START"),
        ("user_features", "COMPLETE"),
        ("user_features.audits", "START"),
        ("user_features.audits", "COMPLETE"),
    ]
    start, end, audits_start, audits_end = events
    assert start["run"]["runId"] == end["run"]["runId"] != audits_start["run"]["runId"] == audits_end["run"]["runId"]
    assert {event["job"]["namespace"] for event in events} == {"ecommerce_assets"}
    assert start["eventTime"] == (NOON - timedelta(seconds=2)).isoformat()
    assert end["eventTime"] == (NOON + timedelta(seconds=8)).isoformat()
    assert end["job"]["facets"]["jobType"]["processingType"] == "BATCH"
    assert end["job"]["facets"]["documentation"]["description"] == "One row per user."
    facets = end["run"]["facets"]
    assert facets["parent"]["run"]["runId"] == RUN
    assert facets["processing_engine"]["name"] == "spark"
    assert facets["externalQuery"]["externalQueryId"] == "local-17"
    assert {p["key"]: p["value"] for p in facets["executionParameters"]["parameters"]} == {
        "k": "5",
        "exclude": "purchased",
    }
    assert "errorMessage" not in facets
    assert audits_end["run"]["facets"]["parent"]["run"]["runId"] == end["run"]["runId"]
    [assertion] = audits_end["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert assertion == {"assertion": "no_nulls", "name": "no_nulls", "success": True, "severity": "error"}


def test_the_output_says_its_version_schema_lineage_and_statistics(
    serve: Callable[..., Server], warnings: Warnings
) -> None:
    [output] = sent(serve(status(200)), warnings, made())[1]["outputs"]
    assert (output["namespace"], output["name"]) == ("s3://shop", "data/lake/user_features")
    facets = output["facets"]
    assert facets["version"]["datasetVersion"] == "20260101_120000_aaaaaaaa"
    assert facets["dataSource"]["name"] == "s3://shop"
    assert facets["storage"]["fileFormat"] == "parquet"
    assert facets["schema"]["fields"] == [
        {"name": "user_id", "type": "bigint", "description": "The user.", "ordinal_position": 1},
        {"name": "recency", "type": "int", "description": "Days since the last event.", "ordinal_position": 2},
    ]
    events = {"namespace": "s3://shop", "name": "data/lake/cleaned_events", "transformations": []}
    assert {name: field["inputFields"] for name, field in facets["columnLineage"]["fields"].items()} == {
        "user_id": [{**events, "field": "user_id"}],
        "recency": [{**events, "field": "event.time"}],
    }
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (3, 30, 2)


def test_inputs_name_exactly_what_was_read(serve: Callable[..., Server], warnings: Warnings) -> None:
    start, end, *_ = sent(serve(status(200)), warnings, made())
    assert start["inputs"] == end["inputs"]
    assert {i["name"] for i in end["inputs"]} == {"data/lake/cleaned_events"}
    read = {
        i["facets"]["version"]["datasetVersion"]: [
            part["dimensions"]["event_date"] for part in i["inputFacets"]["subset"]["inputCondition"]["partitions"]
        ]
        for i in end["inputs"]
    }
    assert read == {"v1": ["2019-10-01", "2019-10-02"], "v2": ["2019-10-03"]}


def test_raw_files_are_one_input_with_their_number_and_size(serve: Callable[..., Server], warnings: Warnings) -> None:
    raw = tuple(
        Input(
            asset="raw_events",
            partitions=(day,),
            fingerprint=day,
            files=(FileEntry(path=f"event_date={day}/a.parquet", bytes=5), FileEntry(path=f"{day}/b", bytes=7)),
        )
        for day in ("2019-10-01", "2019-10-02")
    )
    [source] = sent(serve(status(200)), warnings, made(asset="cleaned_events", inputs=raw))[1]["inputs"]
    assert source["name"] == "data/raw/events"
    assert source["inputFacets"]["inputStatistics"]["fileCount"] == 4
    assert source["inputFacets"]["inputStatistics"]["size"] == 24
    assert "version" not in source["facets"]


def test_a_version_that_was_held_back_is_a_failed_run(serve: Callable[..., Server], warnings: Warnings) -> None:
    _, end, _, audits_end = sent(serve(status(200)), warnings, made(audits=(PASSED, FAILED)))
    assert (end["eventType"], audits_end["eventType"]) == ("FAIL", "FAIL")
    message = end["run"]["facets"]["errorMessage"]["message"]
    assert message.endswith("held back by unique_key: 2 of 3 rows repeat a user_id")
    assert "version" not in end["outputs"][0]["facets"]
    assert "outputFacets" not in end["outputs"][0] or not end["outputs"][0]["outputFacets"]
    assertions = audits_end["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(a["name"], a["success"]) for a in assertions] == [("no_nulls", True), ("unique_key", False)]
    assert assertions[1]["actual"] == "2 of 3 rows repeat a user_id"


def test_a_warning_fails_no_run(serve: Callable[..., Server], warnings: Warnings) -> None:
    doubtful = FAILED.model_copy(update={"blocking": False})
    _, end, _, audits_end = sent(serve(status(200)), warnings, made(audits=(doubtful,)))
    assert (end["eventType"], audits_end["eventType"]) == ("COMPLETE", "COMPLETE")
    [assertion] = audits_end["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["success"], assertion["severity"]) == (False, "warn")


def test_of_daily_assets_the_published_days_are_counted(serve: Callable[..., Server], warnings: Warnings) -> None:
    days = ("2019-10-01", "2019-10-02", "2019-10-03")
    manifest = made(
        asset="cleaned_events",
        rows=111,
        bytes=1110,
        partitions={
            day: Partition(rows=10**n, bytes=10 * 10**n, published=day != days[2]) for n, day in enumerate(days)
        },
        files=tuple(FileEntry(path=f"event_date={day}/part-0.parquet", bytes=1) for day in days),
        audits=(
            *(PASSED.model_copy(update={"partition": day}) for day in days),
            FAILED.model_copy(update={"partition": days[2]}),
        ),
    )
    _, end, _, audits_end = sent(serve(status(200)), warnings, manifest)
    assert (end["eventType"], audits_end["eventType"]) == ("COMPLETE", "FAIL")
    facets = end["outputs"][0]["outputFacets"]
    statistics = facets["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (11, 110, 2)
    told = [part["dimensions"]["event_date"] for part in facets["subset"]["outputCondition"]["partitions"]]
    assert told == ["2019-10-01", "2019-10-02"]
    assertions = audits_end["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(a["name"], a["success"], a.get("params")) for a in assertions] == [
        ("no_nulls", True, None),
        ("unique_key", False, {"event_date": "2019-10-03"}),
    ]


def test_a_model_without_columns_audits_or_a_uuid_run_has_the_facets_that_it_can_have(
    serve: Callable[..., Server], warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shop")
    manifest = made(
        asset="als_model",
        run_id="by hand",
        columns=None,
        column_lineage={},
        rows=None,
        files=(FileEntry(path="model/metadata/part-00000", bytes=1), FileEntry(path="model/u.parquet", bytes=1)),
        audits=(),
        parameters={},
        spark_application_id=None,
    )
    start, end = sent(serve(status(200)), warnings, manifest)
    assert start["job"]["namespace"] == "shop"
    assert set(start["run"]["facets"]) == {"tags"}  # the client's own
    assert set(end["outputs"][0]["facets"]) == {"version", "dataSource"}
    assert "rowCount" not in end["outputs"][0]["outputFacets"]["outputStatistics"]


def test_run_ids_follow_from_run_asset_and_version() -> None:
    def run_id(manifest: Manifest) -> str:
        return run_events(manifest, SHOP)[0].run.runId

    different = [made(), made(version="other"), made(asset="other"), made(run_id=str(uuid.uuid4()))]
    assert run_id(made()) == run_id(made(rows=4))
    assert len({run_id(manifest) for manifest in different}) == 4


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
def test_datasets_are_named_as_the_specification_says(uri: str, expected: tuple[str, str]) -> None:
    assert dataset_name(uri) == expected
