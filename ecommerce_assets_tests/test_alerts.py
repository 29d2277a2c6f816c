"""Alerts to `ECOMMERCE_ALERT_URL`, received by a local server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ecommerce_assets.alerts import alerts
from ecommerce_assets.definitions import build_defs
from ecommerce_assets.settings import Settings, SettingsError, load_settings
from ecommerce_assets_tests.openlineage.server import Server


class Endpoint(Server):
    """Collects alerts, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        super().__init__(self._answer, "/hook")

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Content-Type"] == "application/json"
        handler.send_response(self.status)
        handler.end_headers()

    @property
    def url(self) -> str:
        return f"{super().url}/hook"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server
        server.shutdown()


broken = True


@dg.asset
def first() -> int:
    return 1


@dg.asset
def second(first: int) -> int:
    if broken:
        raise ValueError("rank must be 1 or more, got 0\nand more")
    return 2


@dg.asset
def other() -> int:
    if broken:
        raise ValueError("no")
    return 3


class Shop:
    """Three assets, an instance and the sensors."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.sensors: dict[str, Any] = {sensor.name: sensor for sensor in alerts(settings)}

    def run(self, *assets: Any, works: bool, job_name: str = "refresh", **tags: str) -> dg.DagsterRun:
        """Runs assets, and then the sensor for the result."""
        global broken
        broken = not works
        selection = [asset.key for asset in assets]
        job = dg.define_asset_job(job_name, selection=selection)
        defs = dg.Definitions([first, second, other], jobs=[job])
        result = defs.resolve_job_def(job_name).execute_in_process(
            instance=self.instance, raise_on_error=False, asset_selection=selection, tags=tags
        )
        self.sense(result)
        return result.dagster_run

    def sense(self, result: dg.ExecuteInProcessResult) -> None:
        event = result.get_run_success_event() if result.success else result.get_run_failure_event()
        run = self.instance.get_run_by_id(result.run_id)
        assert run
        context: Any = dg.build_run_status_sensor_context("alert", event, self.instance, run)
        if not result.success:
            context = context.for_run_failure()
        self.sensors["alert_recovered" if result.success else "alert_failed"](context)


@pytest.fixture
def shop(endpoint: Endpoint) -> Iterator[Shop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(load_settings(alert_url=endpoint.url, data_dir="/srv/shop"), instance)


def test_a_failed_run_and_its_recovery_are_posted_once_each(shop: Shop, endpoint: Endpoint) -> None:
    run = shop.run(first, second, works=False)
    [posted] = endpoint.posted
    time = datetime.fromisoformat(posted.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert posted == {
        "project": "ecommerce_assets",
        "status": "failed",
        "run_id": run.run_id,
        "job": "refresh",
        "failed_step": "second",
        "assets": ["second"],
        "message": "rank must be 1 or more, got 0",
        "data_dir": "/srv/shop",
    }
    later = shop.run(second, works=True)
    [_, posted] = endpoint.posted
    assert datetime.fromisoformat(posted.pop("time")) >= time
    assert posted == {
        "project": "ecommerce_assets",
        "status": "recovered",
        "run_id": later.run_id,
        "job": "refresh",
        "failed_step": None,
        "assets": ["second"],
        "message": f"The run succeeded after failed runs: {run.run_id}.",
        "data_dir": "/srv/shop",
    }
    shop.run(second, works=True)
    assert len(endpoint.posted) == 2


def test_only_a_run_that_makes_all_missing_assets_is_a_recovery(shop: Shop, endpoint: Endpoint) -> None:
    shop.run(first, second, works=False)
    shop.run(other, works=True)
    shop.run(first, works=True)
    assert [alert["status"] for alert in endpoint.posted] == ["failed"]
    shop.run(first, second, other, works=True, job_name="recovery")
    assert [alert["status"] for alert in endpoint.posted] == ["failed", "recovered"]


def test_a_run_that_dagster_retries_is_not_posted(shop: Shop, endpoint: Endpoint) -> None:
    shop.run(other, works=False, **{"dagster/will_retry": "true"})
    shop.run(other, works=True)
    assert endpoint.posted == []


def test_a_run_that_was_reported_as_failed_is_posted_with_the_reason(shop: Shop, endpoint: Endpoint) -> None:
    run = dg.DagsterRun("refresh", asset_selection=frozenset({second.key}), status=dg.DagsterRunStatus.STARTED)
    shop.instance.add_run(run)
    event = shop.instance.report_run_failed(run, "The process of this run ended without reporting a result.")
    failed = shop.instance.get_run_by_id(run.run_id)
    assert failed
    context: Any = dg.build_run_status_sensor_context("alert", event, shop.instance, failed).for_run_failure()
    for _ in range(2):  # a second report of the same failure is not posted
        shop.sensors["alert_failed"](context)
    [posted] = endpoint.posted
    assert (posted["failed_step"], posted["assets"]) == (None, ["second"])
    assert posted["message"] == "The process of this run ended without reporting a result."


@pytest.mark.parametrize("is_running", [True, False])
def test_a_post_that_fails_is_a_warning(
    shop: Shop, endpoint: Endpoint, is_running: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    if is_running:
        endpoint.status = 500
    else:
        endpoint.shutdown()
        endpoint.server_close()
    run = shop.run(second, works=False)
    assert f"The alert about run {run.run_id} was not delivered to 127.0.0.1" in capfd.readouterr().err


def test_without_a_url_there_are_no_alerts(tmp_path: Path) -> None:
    def names(**settings: Any) -> set[str]:
        sensors = build_defs(load_settings(data_dir=str(tmp_path), **settings)).sensors or ()
        return {sensor.name for sensor in sensors if sensor.default_status is dg.DefaultSensorStatus.RUNNING}

    ours = {"alert_failed", "alert_recovered"}
    assert names() & ours == set()
    assert names(alert_url="https://example.com/hook") & ours == ours
    with pytest.raises(SettingsError, match=r"ALERT_URL=\(hidden\) cannot be used: it must begin with"):
        load_settings(alert_url="example.com")
