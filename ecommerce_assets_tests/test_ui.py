"""Dagster's UI in a browser, with `dagster dev`: from an empty instance to the results.

`uv run --group ui pytest -m trial -s ecommerce_assets_tests/test_ui.py`, with a chromium on the PATH. Screenshots of
every step are in pytest's temporary folder, or in `UI_SCREENSHOTS`. The tests share one visit, in order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.definitions import CATALOG, ON_DEMAND, build_defs
from ecommerce_assets.events.sample import generate
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.browser import NARROW, SCREEN, TALL, WALL, Visitor, visitor
from ecommerce_assets_tests.daemon import Dev, dagster_dev
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY

pytestmark = pytest.mark.trial

SMALL_MODELS = """\
ops:
  als_model:
    config:
      rank: 4
      maxIter: 2
"""
KINDS = {"spark": "Spark", "parquet": "Parquet", "json": "json", "als": "als", "kmeans": "kmeans"}
KINDS |= {"duckdb": "DuckDB", "csv": ""}  # CSV is an icon
"""Names of kinds in the graph."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A shop of eight days, without materialisations."""
    folder = tmp_path_factory.mktemp("ui") / "shop"
    generate(folder, events=4_000, days=8, first_day=date.fromisoformat(FIRST_DAY))
    return str(folder)


@pytest.fixture(scope="module")
def dev(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """`dagster dev` on the shop, with an empty instance and without automation."""
    settings = {
        "ECOMMERCE_DATA_DIR": data_dir,
        "ECOMMERCE_FIRST_DAY": FIRST_DAY,
        "ECOMMERCE_LAST_DAY": LAST_DAY,
        "ECOMMERCE_AUTOMATION": "false",
        "ECOMMERCE_DRIVER_MEMORY": "2g",
    }
    with dagster_dev(tmp_path_factory.mktemp("dev"), settings) as running:
        running.wait_for("web server", running.answers, 120)
        yield running


@pytest.fixture(scope="module")
def ui(dev: Dev, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A browser on the first page."""
    with visitor(dev.url, tmp_path_factory.mktemp("screenshots")) as browser:
        browser.page.goto("/")
        yield browser


@pytest.fixture(autouse=True)
def picture_of_a_failure(ui: Visitor, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    ui.page.set_viewport_size(SCREEN)
    yield
    if request.session.testsfailed > failed:
        ui.snap(f"failed-{request.node.name}")


@pytest.fixture(scope="module")
def materialised(dev: Dev, ui: Visitor) -> list[dg.DagsterRun]:
    """The runs of materialising the graph over all days, in the UI, with a small model."""
    ui.page.set_viewport_size(SCREEN)
    ui.open("/asset-groups", "Global asset lineage")
    ui.press("Materialize all")
    ui.page.get_by_placeholder("ex: ").fill(f"[{FIRST_DAY}...{LAST_DAY}]")
    ui.page.keyboard.press("Tab")
    ui.see("8 partitions")
    ui.dialog().get_by_text("Config", exact=True).click()
    ui.press("Add config")
    ui.see("Config Editor")
    ui.write_config(SMALL_MODELS)
    ui.see("No errors")
    ui.snap("materialize-config")
    ui.press("Save config")
    ui.snap("materialize", in_the_dark=True)
    started = time.monotonic()
    ui.press("Launch backfill")
    ui.page.get_by_text("Created backfill").wait_for()
    ui.snap("launched")
    ui.see("View").click()
    ui.see("In progress")
    ui.snap("in-progress", in_the_dark=True)
    ui.page.locator("div").filter(has_text=re.compile(r"^Status\s*Succeeded$")).first.wait_for(timeout=600_000)
    print(f"from the click to the end of the runs: {time.monotonic() - started:.0f} s")
    ui.snap("completed")
    return dev.runs()


def test_the_graph_shows_every_asset(ui: Visitor, data_dir: str) -> None:
    """Names, groups, kinds and descriptions, on one large screen."""
    ui.open("/asset-groups", "Global asset lineage")
    ui.snap("graph-by-group", in_the_dark=True)
    ui.press_icon("config")
    ui.dialog().get_by_text("Description", exact=True).click()
    ui.press("Save")
    ui.choose("Expand all groups", "settings")
    ui.page.set_viewport_size(WALL)
    ui.open("/asset-groups", "raw_events")
    ui.page.get_by_text("Loading").first.wait_for(state="detached")
    ui.snap("graph", in_the_dark=True)
    nodes = ui.page.locator("foreignObject").evaluate_all("all => all.map(node => node.textContent)")
    graph = build_defs(load_settings(data_dir=data_dir)).resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {*CATALOG, *ON_DEMAND}
    for key in graph.get_all_asset_keys():
        asset, [shown] = graph.get(key), [n for n in nodes if n.startswith(key.to_user_string())]
        described = (asset.description or "").replace("`", "")
        assert shown.startswith(f"{key.to_user_string()}{described}"), shown
        assert all(shown.count(KINDS[kind]) for kind in asset.kinds), shown
        assert asset.group_name in nodes
        assert described.endswith(".")


def test_the_launched_runs_succeed(ui: Visitor, dev: Dev, materialised: list[dg.DagsterRun], data_dir: str) -> None:
    assert [run.status for run in materialised] == [dg.DagsterRunStatus.SUCCESS] * 2, "the days, then what is behind"
    lake = Lake(data_dir)
    external = {"raw_events", "product_catalog"}
    assert [asset for asset in CATALOG if asset not in external and not lake.published(asset)] == []
    assert lake.latest("als_model").parameters["rank"] == 4, "as typed into the dialog"
    ui.open(f"/runs/{materialised[-1].run_id}", "Success")
    ui.page.get_by_text("RUN_SUCCESS").first.wait_for()
    ui.snap("run", in_the_dark=True)
    ui.page.get_by_placeholder("Filter").last.fill("published as")
    ui.page.keyboard.press("Escape")
    ui.page.get_by_text("published as").first.wait_for()
    ui.snap("run-summaries")


@pytest.mark.parametrize("asset", ["segmented_users", "recommendations"])
def test_a_table_shows_what_it_holds(asset: str, ui: Visitor, materialised: list[dg.DagsterRun], data_dir: str) -> None:
    spec, version = CATALOG[asset], Lake(data_dir).latest(asset)
    assert spec.table is not None
    ui.open(f"/assets/{asset}", "Row count")
    ui.see(f"{version.stats.rows:,}")
    for column in spec.table.columns:
        row = ui.page.locator("tr").filter(has=ui.page.get_by_text(column.name, exact=True))
        row.filter(has_text=column.description).first.wait_for()  # descriptions come a moment after the names
    ui.snap(asset, in_the_dark=True)
    ui.page.set_viewport_size(TALL)
    ui.snap(f"{asset}-whole-page")
    ui.page.set_viewport_size(NARROW)
    for key in ("preview", "column lineage"):
        dialog = ui.open_metadata(key)
        shown = dialog.inner_text()
        ui.snap(f"{asset}-{key.replace(' ', '-')}")
        assert all(column in shown for column in spec.table.names), key
        assert ui.shows_the_top_of(dialog)
        ui.close()
    if spec.plots:
        dialog = ui.open_metadata("plots")
        plots = dialog.locator("img")
        ui.snap(f"{asset}-plots", in_the_dark=True)
        assert ui.shows_the_top_of(dialog)
        edges = plots.evaluate_all("all => all.map(one => one.naturalWidth && one.getBoundingClientRect().right)")
        assert len(edges) == len(spec.plots)
        assert 600 < min(edges) <= max(edges) <= dialog.evaluate("one => one.getBoundingClientRect().right")
        ui.close()
    ui.page.set_viewport_size(SCREEN)
    ui.open(f"/assets/{asset}?view=checks", f"Checks ({len(spec.checks)})")
    for check in spec.checks:
        ui.see(check.name).click()
        ui.see(check.description.replace("`", ""))
    ui.snap(f"{asset}-checks", in_the_dark=True)
    passed = [check for check in version.checks if check.passed]
    assert ui.page.get_by_text("Succeeded", exact=True).count() == len(passed)
    for check in passed:
        ui.see(check.name).click()
        ui.see(check.checked)
    assert all(check.passed for check in version.checks if check.blocking)


def test_cleaned_events_show_the_rows_of_all_days(
    ui: Visitor, materialised: list[dg.DagsterRun], data_dir: str
) -> None:
    ui.open("/assets/cleaned_events", "Row count")
    ui.see(f"{sum(day.stats.rows or 0 for day in Lake(data_dir).days('cleaned_events')):,}")


def test_the_launchpad_has_typed_fields(ui: Visitor, materialised: list[dg.DagsterRun]) -> None:
    """Every parameter has its type and description, and an invalid value is an error."""
    ui.open("/assets/als_model", "Description")
    ui.choose("Open launchpad", "arrow_drop_down", 0)
    ui.page.get_by_text("Launchpad (configure assets)").wait_for()
    line = ui.page.locator(".CodeMirror-line").filter(has_text="engine: auto")
    line.click()
    ui.page.get_by_text("The confidence in a preference").wait_for()
    ui.snap("launchpad", in_the_dark=True)
    shown = " ".join(ui.dialog().inner_text().split())
    for field in ("engine: auto", "params: configured", "rank?: Int", "alpha?: Float?", "nonnegative?: Bool"):
        assert field in shown
    assert "Unset: the promoted value, 50 by default." in shown
    ui.page.keyboard.press("End")
    ui.page.keyboard.press("Enter")
    ui.page.keyboard.insert_text("alpha: 1x")
    ui.dialog().get_by_text('Value "1x" of type').wait_for()
    ui.snap("launchpad-wrong-value")
    assert ui.dialog().get_by_role("button", name="Materialize").is_disabled()
    ui.page.keyboard.press("Escape")


def test_the_sensor_previews_a_tick(ui: Visitor, materialised: list[dg.DagsterRun], data_dir: str) -> None:
    ui.open("/automation", "refresh")
    ui.snap("automation", in_the_dark=True)
    ui.see("new_event_partitions").click()
    ui.page.get_by_text(f"{data_dir}/raw/events").first.wait_for()
    ui.snap("sensor", in_the_dark=True)
    ui.press("Preview tick result")
    ui.press("Continue")
    ui.page.get_by_text("Nothing new: 8 days are known.").wait_for()
    ui.snap("sensor-preview")
    ui.close()


OTHERS = sorted({*CATALOG} - {"segmented_users", "recommendations"})


def test_the_sections_of_the_model_card_open_at_their_top(ui: Visitor, materialised: list[dg.DagsterRun]) -> None:
    ui.page.set_viewport_size(NARROW)
    ui.open("/assets/training_metadata", "in short")
    ui.snap("model-card")
    for name in ("Customer segments", "Recommendations", "NDCG by group of users"):
        dialog = ui.open_metadata(name)
        ui.snap(f"model-card-{name.replace(' ', '-')}", in_the_dark=True)
        assert ui.shows_the_top_of(dialog), name
        ui.close()


def test_the_code_of_an_asset_is_one_click_away(ui: Visitor, materialised: list[dg.DagsterRun]) -> None:
    for asset, function in (
        ("cleaned_events", "clean_events"),
        ("als_model", "als_model"),
        ("backtest", "backtest_asset"),
    ):
        ui.open(f"/assets/{asset}", "Source code")
        link = ui.page.get_by_role("link", name="in editor").get_attribute("href") or ""
        path, line = link.removeprefix("vscode://file/").rsplit(":", 1)
        code = Path(path).read_text().splitlines()[int(line) - 1 :]
        assert re.search(r"def (\w+)", "\n".join(code))[1] == function  # type: ignore[index]


@pytest.mark.parametrize("asset", OTHERS)
def test_the_others_are_pictured(asset: str, ui: Visitor, materialised: list[dg.DagsterRun]) -> None:
    """Only screenshots."""
    ui.page.set_viewport_size(TALL)
    ui.open(f"/assets/{asset}", "Definition")
    ui.snap(asset)
    if CATALOG[asset].plots:
        ui.open_metadata("plots")
        ui.snap(f"{asset}-plots")
        ui.close()


def test_a_failed_check_has_the_reason(ui: Visitor, materialised: list[dg.DagsterRun]) -> None:
    """The page of the check has the reason."""
    ui.open("/assets/als_model?view=checks", "objective_decreases")
    ui.see("objective_decreases").click()
    ui.page.get_by_text("the objective still decreases").wait_for()
    ui.snap("failed-check", in_the_dark=True)


def test_browser_and_server_have_no_errors(ui: Visitor, dev: Dev, materialised: list[dg.DagsterRun]) -> None:
    print("\n".join(sorted(set(ui.complaints))))
    assert [complaint for complaint in ui.complaints if complaint.startswith("error")] == []
    lines = dev.log.read_text().splitlines()
    assert [line for line in lines if "Traceback" in line or ("ERROR" in line and "log level" not in line)] == []
