"""Events are sent if the client is configured, and no endpoint fails or delays a run."""

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

from ecommerce_assets import mlflow_log
from ecommerce_assets.openlineage import sending
from ecommerce_assets.resources import build_resources
from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.stored_asset import StoredAsset
from ecommerce_assets.storage.version import Version
from ecommerce_assets_tests.openlineage.server import (
    SHOP,
    TABLE,
    Server,
    a_version,
    one_byte_at_a_time,
    silence,
    status,
)

pytestmark = pytest.mark.usefixtures("unconfigured")

Serve = Callable[..., Server]
RUN_OF_FIVE = [a_version(), *(a_version(asset=f"a{n}") for n in range(4))]
NOWHERE = "http://me:secret@127.0.0.1:1"


def emit(*versions: Version) -> list[str]:
    """Returns the warnings."""
    warnings: list[str] = []
    for version in versions:
        sending.emit(version, SHOP, TABLE, warnings.append)
    return warnings


def failure(within: float, *versions: Version) -> str:
    """Returns the only warning for these versions (by default five), after at most so many seconds."""
    started = time.monotonic()
    [warning] = emit(*(versions or RUN_OF_FIVE))
    assert time.monotonic() - started < within
    assert "user_features 12 were not all delivered" in warning
    assert "\n" not in warning
    return warning


def test_the_io_manager_sends_published_versions(serve: Serve, tmp_path: Path) -> None:
    @dg.asset(io_manager_key="documents")
    def report() -> dict[str, int]:
        return {"answer": 42}

    server, spark = serve(status(200)), SparkResource()
    documents = JsonIOManager(
        data_dir=str(tmp_path), spark=spark, catalog={"report": StoredAsset()}, on_version=sending.emit
    )
    result = dg.materialize([report], resources={"documents": documents, "spark": spark})
    start, end = server.posted
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert end["run"]["facets"]["parent"]["run"]["runId"] == result.run_id
    assert end["outputs"][0]["name"] == f"{tmp_path}/lake/report"


def test_all_io_managers_of_the_code_location_send_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Any]] = []
    monkeypatch.setattr(sending, "emit", lambda *about: sent.append(("OpenLineage", about[0])))
    monkeypatch.setattr(mlflow_log, "log_version", lambda *about: sent.append(("MLflow", about[0])))
    resources, version = build_resources(load_settings(), {}), a_version()
    for kind in ("", "model_", "json_"):
        resources[f"{kind}io_manager"].on_version(version, SHOP, None, print, None)
    assert sent == [("OpenLineage", version), ("MLflow", version)] * 3


def test_without_configuration_nothing_is_sent_printed_or_imported(tmp_path: Path) -> None:
    script = f"""
import sys
from ecommerce_assets.openlineage import sending
from ecommerce_assets.storage.version import Version
version = Version.model_validate_json({a_version().model_dump_json()!r})
sending.emit(version, {SHOP!r}, None, print)
loaded = [name for name in sys.modules if name.startswith(("openlineage", "ecommerce_assets.openlineage.events"))]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_client_can_be_disabled(serve: Serve) -> None:
    server = serve(status(200))
    os.environ["OPENLINEAGE_DISABLED"] = "True"
    assert emit(a_version()) == server.posted == []


@pytest.mark.parametrize("folder", [".", ".openlineage", "etc"])
def test_openlineage_yml_is_read_from_the_folders_of_the_client(serve: Serve, tmp_path: Path, folder: str) -> None:
    server = serve(status(200))
    del os.environ["OPENLINEAGE_URL"]
    path = tmp_path / folder / "openlineage.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"transport:\n  type: http\n  url: {server.url}\n")
    if folder == "etc":
        os.environ["OPENLINEAGE_CONFIG"] = str(path)
    assert emit(a_version()) == []
    assert len(server.posted) == 4


def test_a_composite_transport_from_the_environment(serve: Serve) -> None:
    server = serve(status(200))
    del os.environ["OPENLINEAGE_URL"]
    inner = {"a": {"type": "async_http", "url": server.url}, "b": {"type": "http", "url": server.url}}
    os.environ["OPENLINEAGE__TRANSPORT__TYPE"] = "composite"
    os.environ["OPENLINEAGE__TRANSPORT__TRANSPORTS"] = json.dumps(inner)
    assert emit(a_version()) == []
    assert len(server.posted) == 8


@pytest.mark.parametrize("answer", [silence, one_byte_at_a_time])
def test_a_server_that_does_not_answer_delays_a_run_briefly(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    monkeypatch.setattr(sending, "VERSION_SECONDS", 0.3)
    serve(answer)
    failure(2)


@pytest.mark.parametrize(("code", "requests"), [(401, 1), (503, 2)])
@pytest.mark.parametrize("transport", ["http", "async_http"])
def test_a_failing_server_gets_one_retry_and_a_refusing_one_none(
    serve: Serve, capfd: pytest.CaptureFixture[str], transport: str, code: int, requests: int
) -> None:
    server = serve(status(code), transport)
    failure(3)
    assert {event["job"]["name"] for event in server.posted} <= {"user_features", "user_features.checks"}
    assert server.posted.count(server.posted[0]) == requests
    if transport == "http":  # async_http logs its failures and sends the next event
        assert len(server.posted) == requests
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("transport", ["http", "async_http"])
def test_a_retry_delivers_after_one_failure(serve: Serve, transport: str) -> None:
    answers = iter([status(503)])
    server = serve(lambda handler: next(answers, status(200))(handler), transport)
    assert emit(a_version()) == []
    assert len(server.posted) == 5


def test_a_refused_connection_is_one_warning_without_secrets(capfd: pytest.CaptureFixture[str]) -> None:
    os.environ["OPENLINEAGE_URL"] = NOWHERE
    warning = failure(2)
    assert "refused" in warning
    assert "secret" not in warning
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
def test_a_broken_configuration_is_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    (tmp_path / "openlineage.yml").write_text(content)
    assert reason in failure(2)
    assert capfd.readouterr() == ("", "")


def test_events_are_sent_again_after_the_pause(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["OPENLINEAGE_URL"] = NOWHERE
    failure(2, a_version())
    server = serve(status(200))
    assert emit(a_version(run_id="next")) == server.posted == []
    monkeypatch.setattr(sending, "_paused_until", 0.0)
    assert emit(a_version()) == []
    assert len(server.posted) == 4
