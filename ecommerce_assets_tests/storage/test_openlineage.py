"""What is sent as OpenLineage events fits the client's own model, and no endpoint can fail or hold up a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attr
import dagster as dg
import pytest
from openlineage.client import facet_v2
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import openlineage
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.manifest import AuditResult, FileEntry, Input, Manifest, Partition
from ecommerce_assets.storage.openlineage_events import dataset_name, run_events
from ecommerce_assets.storage.tables import Column, TableSchema
from ecommerce_assets_tests.storage.test_lake import Warnings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "0d9f3a1e-5b1c-4c55-9f0b-2f6d1f2a9c11"
SHOP = "s3a://shop/data"
SCHEMA = TableSchema.of(
    Column("user_id", "id", "The user.", key=True), Column("recency", "int", "Days since the last event.")
)
PASSED = AuditResult(name="no_nulls", blocking=True, passed=True)
FAILED = AuditResult(name="unique_key", blocking=True, passed=False, message="2 of 3 rows repeat a user_id")


def made(**changes: Any) -> Manifest:
    """A version of user_features, made from two versions of cleaned_events."""
    fields: dict[str, Any] = {
        "asset": "user_features",
        "version": "20260101_120000_aaaaaaaa",
        "run_id": RUN,
        "code_version": "1",
        "created_at": NOON,
        "committed_at": NOON + timedelta(seconds=8),
        "seconds": 10.0,
        "spark_application_id": "local-17",
        "parameters": {"k": 5, "exclude": "purchased"},
        "inputs": (
            Input(asset="cleaned_events", version="v1", partitions=("2019-10-01", "2019-10-02"), fingerprint="f"),
            Input(asset="cleaned_events", version="v2", partitions=("2019-10-03",), fingerprint="g"),
        ),
        "columns": {"user_id": "bigint", "recency": "int"},
        "column_lineage": {"user_id": ("cleaned_events.user_id",), "recency": ("cleaned_events.event.time",)},
        "rows": 3,
        "bytes": 30,
        "files": (FileEntry(path="part-0.parquet", bytes=10), FileEntry(path="part-1.parquet", bytes=20)),
        "fingerprint": "f",
        "audits": (PASSED,),
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def warnings() -> Warnings:
    return Warnings()


@pytest.fixture(autouse=True)
def unconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration anywhere, and an endpoint that was never tried. (The client writes to os.environ itself.)"""

    def forget() -> None:
        for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
            del os.environ[name]

    before = {name: value for name, value in os.environ.items() if name.startswith("OPENLINEAGE")}
    forget()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(openlineage, "_endpoint", openlineage._Endpoint())
    yield
    forget()
    os.environ.update(before)


class Server(ThreadingHTTPServer):
    """Collects what is posted; `answer` says how it answers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.posted: list[dict[str, Any]] = []
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.requests += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/api/v1/lineage"
                server.posted.append(body)
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def one_byte_at_a_time(handler: BaseHTTPRequestHandler) -> None:
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start a server and point OPENLINEAGE_URL to it."""
    started: list[Server] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> Server:
        started.append(Server(answer))
        os.environ["OPENLINEAGE_URL"] = started[-1].url
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


FACETS = {
    facet._get_schema(): facet
    for module in vars(facet_v2).values()
    if isinstance(module, types.ModuleType)
    for facet in vars(module).values()
    if isinstance(facet, type) and issubclass(facet, facet_v2.BaseFacet)
}


def structured(kind: Any, data: Any) -> Any:
    """The JSON as objects of the client's classes; fails on a field, type or kind of facet that those do not have."""
    if data is None:
        return None
    if isinstance(data, dict) and "_schemaURL" in data:
        assert issubclass(FACETS[data["_schemaURL"]], kind), f"{data['_schemaURL']} is no {kind.__name__}"
        kind = FACETS[data["_schemaURL"]]
    if isinstance(kind, type) and attr.has(kind):
        fields = {field.name: field for field in attr.fields(kind)}
        assert set(data) <= set(fields), f"{kind.__name__} has no {set(data) - set(fields)}"
        hints = typing.get_type_hints(kind)
        absent = {f.name: None for f in fields.values() if type(None) in typing.get_args(hints[f.name])}
        known = {name: value for name, value in (absent | data).items() if fields[name].init}
        return kind(**{fields[name].alias: structured(hints[name], value) for name, value in known.items()})
    origin, parameters = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for choice in parameters:
            try:
                return structured(choice, data)
            except (AssertionError, TypeError, ValueError):
                continue
        raise AssertionError(f"{data} is none of {parameters}")
    if origin is list:
        return [structured(parameters[0], item) for item in data]
    if origin is dict:
        return {name: structured(parameters[1], value) for name, value in data.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    assert kind is Any or isinstance(data, kind), f"{data!r} is no {kind}"
    return data


def check(event: dict[str, Any]) -> dict[str, Any]:
    """The event, after it went through the client's classes and came back the same."""
    assert Serde.to_dict(structured(RunEvent, event)) == event
    assert event["schemaURL"].startswith("https://openlineage.io/spec/")
    return event


def sent(server: Server, warnings: Warnings, manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    openlineage.emit(manifest, SHOP, SCHEMA, warnings, **arguments)
    assert warnings == []
    return [check(event) for event in server.posted]


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


def test_the_io_manager_sends_what_it_wrote(serve: Callable[..., Server], tmp_path: Path) -> None:
    @dg.io_manager(required_resource_keys={"spark"})
    def documents(_: Any) -> JsonIOManager:
        return JsonIOManager(str(tmp_path), {"report": AssetSpec()})

    @dg.asset(io_manager_key="documents", description="All about it.")
    def report() -> dict[str, int]:
        return {"answer": 42}

    server = serve(status(200))
    spark = SparkResource()
    result = dg.materialize([report], resources={"documents": documents, "spark": spark})
    start, end = [check(event) for event in server.posted]
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert end["run"]["facets"]["parent"]["run"]["runId"] == result.run_id
    assert end["job"]["facets"]["documentation"]["description"] == "All about it."
    assert end["outputs"][0]["name"] == f"{tmp_path}/lake/report"
    assert end["outputs"][0]["facets"]["storage"]["fileFormat"] == "json"


def test_without_configuration_nothing_is_sent_printed_or_imported(tmp_path: Path) -> None:
    script = f"""
import sys
from ecommerce_assets.storage import io_managers, openlineage
from ecommerce_assets.storage.manifest import Manifest
manifest = Manifest.model_validate_json({made().model_dump_json()!r})
openlineage.emit(manifest, {SHOP!r}, None, print)
loaded = [name for name in sys.modules if name.split(".")[0] == "openlineage" or name.endswith("openlineage_events")]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    repository = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": repository}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_disabled_wins(serve: Callable[..., Server], warnings: Warnings) -> None:
    server = serve(status(200))
    os.environ["OPENLINEAGE_DISABLED"] = "True"
    assert sent(server, warnings, made()) == []


@pytest.mark.parametrize("where", ["here", "home", "named"])
def test_openlineage_yml_is_found_where_the_client_looks(
    serve: Callable[..., Server], warnings: Warnings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    server = serve(status(200))
    del os.environ["OPENLINEAGE_URL"]
    folder = {"here": tmp_path, "home": tmp_path / ".openlineage", "named": tmp_path / "etc"}[where]
    folder.mkdir(exist_ok=True)
    path = folder / "openlineage.yml"
    path.write_text(f"transport:\n  type: http\n  url: {server.url}\n")
    if where == "named":
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(path))
    assert len(sent(server, warnings, made())) == 4


def test_a_transport_of_several_from_the_environment(
    serve: Callable[..., Server], warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(status(200))
    del os.environ["OPENLINEAGE_URL"]
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
    inner = {"a": {"type": "async_http", "url": server.url}, "b": {"type": "http", "url": server.url}}
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS", json.dumps(inner))
    assert len(sent(server, warnings, made())) == 8


def tried(warnings: Warnings, *manifests: Manifest) -> float:
    """Seconds that these versions cost; exactly one warning came of it."""
    started = time.monotonic()
    for manifest in manifests:
        openlineage.emit(manifest, SHOP, SCHEMA, warnings)
    seconds = time.monotonic() - started
    assert len(warnings) == 1
    assert "user_features 20260101_120000_aaaaaaaa were not all delivered" in warnings[0]
    assert "\n" not in warnings[0]
    return seconds


RUN_OF_FIVE = [made(), *(made(asset=f"a{n}") for n in range(4))]


def test_a_server_that_never_answers_costs_a_run_a_few_seconds(
    serve: Callable[..., Server], warnings: Warnings
) -> None:
    serve(silence)
    assert tried(warnings, *RUN_OF_FIVE) < 6
    assert "timed out" in warnings[0]


def test_a_server_that_answers_a_byte_at_a_time_costs_a_run_a_few_seconds(
    serve: Callable[..., Server], warnings: Warnings
) -> None:
    serve(one_byte_at_a_time)
    assert tried(warnings, *RUN_OF_FIVE) < 6
    assert "took more than 5 s" in warnings[0]


@pytest.mark.parametrize("code", [401, 500, 503])
def test_a_server_that_refuses_is_asked_twice(
    serve: Callable[..., Server], warnings: Warnings, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    server = serve(status(code))
    assert tried(warnings, *RUN_OF_FIVE) < 2
    assert server.requests == 2
    assert f"HTTPError: {code}" in warnings[0]
    assert capfd.readouterr() == ("", "")


def test_a_transport_that_fails_behind_our_back_is_noticed(
    serve: Callable[..., Server], warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(status(404))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "async_http")
    assert tried(warnings, *RUN_OF_FIVE) < 6
    assert "lost 4 of 4 events" in warnings[0]


def test_one_failure_is_made_good(serve: Callable[..., Server], warnings: Warnings) -> None:
    answers = iter([status(503)])
    server = serve(lambda handler: next(answers, status(200))(handler))
    openlineage.emit(made(), SHOP, SCHEMA, warnings)
    assert warnings == []
    assert server.requests == 5


def test_no_server_at_all(serve: Callable[..., Server], warnings: Warnings, capfd: pytest.CaptureFixture[str]) -> None:
    serve(status(200)).server_close()
    os.environ["OPENLINEAGE_URL"] = "http://me:secret@127.0.0.1:1"
    assert tried(warnings, *RUN_OF_FIVE) < 2
    assert "refused" in warnings[0]
    assert "secret" not in warnings[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{]", "Couldn't read content of the OpenLineage config file"),
        ("", "Empty OpenLineage config file"),
        ("garbage", "AttributeError"),
        ("transport: {type: http}", "`url` key not passed"),
        ("transport: {type: pigeon, url: x}", "Failed to import pigeon"),
        ("filters: []", "Couldn't find any OpenLineage transport configuration"),
    ],
)
def test_an_openlineage_yml_that_is_no_use(
    warnings: Warnings, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    (tmp_path / "openlineage.yml").write_text(content)
    assert tried(warnings, *RUN_OF_FIVE) < 2
    assert reason in warnings[0]
    assert capfd.readouterr() == ("", "")


def test_after_the_pause_another_run_tries_again(
    serve: Callable[..., Server], warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openlineage, "PAUSE_SECONDS", 0.0)
    os.environ["OPENLINEAGE_URL"] = "http://127.0.0.1:1"
    tried(warnings, made())
    server = serve(status(200))
    openlineage.emit(made(), SHOP, SCHEMA, warnings)
    assert server.posted == []
    openlineage.emit(made(run_id="next"), SHOP, SCHEMA, warnings)
    assert len(server.posted) == 4
    assert len(warnings) == 1


def test_a_slow_server_is_given_up_when_the_run_has_waited_enough(
    serve: Callable[..., Server], warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openlineage, "RUN_SECONDS", 0.5)
    monkeypatch.setattr(openlineage, "_endpoint", openlineage._Endpoint(seconds=0.5))

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        status(200)(handler)

    server = serve(slowly)
    for number in range(10):
        openlineage.emit(made(version=f"v{number}"), SHOP, SCHEMA, warnings)
    assert len(warnings) == 1
    assert server.requests < 20
