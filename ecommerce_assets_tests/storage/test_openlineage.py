"""What is written is sent where the client is configured, and no endpoint can fail or hold up a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import openlineage
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets_tests.storage.openlineage_server import (
    SCHEMA,
    SHOP,
    Server,
    check,
    made,
    one_byte_at_a_time,
    sent,
    silence,
    status,
)
from ecommerce_assets_tests.storage.test_lake import Warnings

pytestmark = pytest.mark.usefixtures("unconfigured")


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
