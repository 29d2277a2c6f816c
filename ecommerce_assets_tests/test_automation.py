"""From a landed day to new recommendations with no one at the keyboard: the conditions alone, and the real daemon."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.landing import land
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.daemon import Dev, dagster_dev
from ecommerce_assets_tests.helpers import event, run_graph, write_day

REFRESHED = {
    "user_features",
    "product_features",
    "segmentation_model",
    "segmented_users",
    "customer_groups",
    "segment_history",
    "customer_value",
    "user_index",
    "product_index",
    "interaction_data",
    "als_model",
    "item_neighbours",
    "als_evaluation",
    "blend_model",
    "product_eligibility",
    "recommendations",
    "similar_products",
    "product_pairs",
    "training_metadata",
}


def assets_of(dev: Dev, run: dg.DagsterRun) -> set[str]:
    """What a run materialised."""
    records = dev.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {
        record.dagster_event.asset_key.to_user_string()
        for record in records
        if record.dagster_event and record.dagster_event.asset_key
    }


class Conditions:
    """The conditions of the whole graph, evaluated tick by tick against an instance; `asked` plays no run."""

    def __init__(self, instance: dg.DagsterInstance, data_dir: Path) -> None:
        window = {"first_day": date(2019, 10, 1), "last_day": date(2019, 12, 29)}
        self.defs = build_defs(load_settings(data_dir=str(data_dir), **window))
        self.instance, self.cursor = instance, None
        self.graph = self.defs.resolve_asset_graph()

    def tick(self) -> set[str]:
        """The assets that are asked for, all in one run."""
        found = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = found.cursor
        return {result.key.to_user_string() for result in found.results if not result.true_subset.is_empty}

    def materialise(self, assets: Iterable[str], days: Sequence[str] = ()) -> None:
        """As a run reports it: the assets, and checks that pass."""
        for asset in assets:
            for day in days or (None,):
                self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))
            self.check(asset)

    def check(self, asset: str, failed: str = "") -> None:
        """The checks of an asset, of which the named one fails: alone, that is what a blocked version reports."""
        for key in self.graph.get_check_keys_for_assets({dg.AssetKey(asset)}):
            passed = key.name != failed
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=passed)
            )


@pytest.fixture
def conditions(tmp_path: Path) -> Iterator[Conditions]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Conditions(instance, tmp_path)


CLEANING = ("cleaned_events", "rejected_events")


def test_a_batch_of_days_refreshes_everything_once_in_one_run(conditions: Conditions) -> None:
    assert conditions.tick() == set()
    conditions.materialise(CLEANING, ["2019-11-05", "2019-11-06", "2019-11-09"])
    assert conditions.tick() == REFRESHED, "although most days of the definition are missing"
    assert conditions.tick() == set()
    conditions.materialise(REFRESHED)
    conditions.tick()
    assert conditions.tick() == set()
    conditions.materialise(CLEANING, ["2019-11-10"])
    assert conditions.tick() == REFRESHED


def test_a_changed_catalogue_refreshes_the_lists_without_training(conditions: Conditions) -> None:
    conditions.materialise(CLEANING, ["2019-11-05"])
    conditions.materialise(REFRESHED)
    conditions.tick()
    assert conditions.tick() == set()
    conditions.materialise(["product_catalog"])
    lists = {"product_eligibility", "recommendations", "similar_products", "product_pairs", "training_metadata"}
    assert conditions.tick() == lists
    assert conditions.tick() == set()


def test_days_that_came_before_the_first_look_count(conditions: Conditions) -> None:
    conditions.materialise(CLEANING, ["2019-11-05"])
    assert conditions.tick() == REFRESHED


def test_a_blocked_day_does_not_hold_back_the_others(
    spark: SparkSession, conditions: Conditions, tmp_path: Path
) -> None:
    days = ["2019-11-05", "2019-11-06", "2019-11-07"]

    def land_and_clean(*chosen: str, price: float = 1.0) -> bool:
        for day in chosen:
            write_day(tmp_path, day, [event(f"{day} 10:00:00", price=price if day == days[1] else 1.0)])
        result = run_graph(
            tmp_path, chosen[0], chosen[-1], CLEANING, raise_on_error=False, instance=conditions.instance
        )
        return result.success

    assert land_and_clean(days[0])
    assert conditions.tick() == REFRESHED
    conditions.materialise(REFRESHED)
    assert conditions.tick() == set()
    assert not land_and_clean(*days, price=-1.0)
    assert [day.day for day in Lake(str(tmp_path)).days("cleaned_events")] == [days[0], days[2]]
    assert conditions.tick() == REFRESHED
    conditions.materialise(REFRESHED)
    assert conditions.tick() == set()
    assert land_and_clean(days[1])
    assert conditions.tick() == REFRESHED


def test_nothing_follows_a_blocked_model(conditions: Conditions) -> None:
    conditions.materialise(CLEANING, ["2019-11-05"])
    conditions.materialise(REFRESHED)
    conditions.tick()
    conditions.materialise(CLEANING, ["2019-11-06"])
    assert conditions.tick() == REFRESHED
    # The run that was asked for: als_evaluation is blocked, and what is behind it is not materialised.
    run = dg.DagsterRun("refresh", asset_selection=frozenset(map(dg.AssetKey, REFRESHED)))
    conditions.instance.add_run(run)
    blocked = {"als_evaluation", "blend_model", "recommendations", "training_metadata"}
    for asset in REFRESHED - blocked:
        made = StepMaterializationData(dg.AssetMaterialization(asset))
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION.value
        conditions.instance.report_dagster_event(dg.DagsterEvent(kind, "refresh", event_specific_data=made), run.run_id)
        conditions.check(asset)
    conditions.check("als_evaluation", failed="not_worse_than_best_baseline")
    assert [conditions.tick(), conditions.tick()] == [set(), set()]
    conditions.materialise(CLEANING, ["2019-11-07"])
    assert conditions.tick() == REFRESHED


@pytest.mark.trial
def test_a_landed_day_becomes_new_recommendations_by_itself(tmp_path: Path, days_of_events: list[Path]) -> None:
    shop = tmp_path / "shop"
    *first, late, poisoned = days_of_events
    land([str(path) for path in first], shop)
    lake = Lake(str(shop))
    settings = {
        "ECOMMERCE_DATA_DIR": str(shop),
        "ECOMMERCE_FIRST_DAY": "2019-10-01",
        "ECOMMERCE_LAST_DAY": "2019-12-29",
        "ECOMMERCE_DRIVER_MEMORY": "2g",
    }
    with dagster_dev(tmp_path, settings) as dev:
        started = time.monotonic()
        before = dev.wait_for("metadata of the first batch", lambda: lake.latest_or_none("training_metadata"), 600)
        dev.wait_for("end of the runs", dev.is_idle, 60)
        print(f"first batch: {time.monotonic() - started:.0f} s")
        cleaning, training = dev.runs()
        assert assets_of(dev, cleaning) == {"cleaned_events", "rejected_events"}
        assert assets_of(dev, training) == REFRESHED

        started = time.monotonic()
        land([str(late)], shop)
        first_lists = lake.latest("recommendations").version

        def refreshed() -> bool:
            return lake.latest("recommendations").version != first_lists

        dev.wait_for("new recommendations", refreshed, 600)
        print(f"from landing to new recommendations: {time.monotonic() - started:.0f} s")
        dev.wait_for("new metadata", lambda: lake.latest("training_metadata").version != before.version, 120)
        dev.wait_for("end of the runs", dev.is_idle, 60)
        cleaning, training = dev.runs()[2:]
        assert cleaning.tags["dagster/asset_partition_range_start"] == late.stem, "one new day, one day cleaned"
        assert assets_of(dev, training) == REFRESHED
        assert len(lake.published("als_model")) == 2, "trained once per batch"
        assert [day.day for day in lake.days("cleaned_events")] == [path.stem for path in [*first, late]]

        broken = tmp_path / poisoned.name
        broken.write_text(poisoned.read_text().replace("purchase", "sold").replace("view", "looked"))
        land([str(broken)], shop)
        _a_bad_day_goes_nowhere(dev, lake, poisoned.stem)


def _a_bad_day_goes_nowhere(dev: Dev, lake: Lake, day: str) -> None:
    dev.wait_for("the run over the bad day", lambda: len(dev.runs()) == 5 and dev.is_idle(), 300)
    assert dev.runs()[4].status is dg.DagsterRunStatus.FAILURE
    time.sleep(90)  # time for several ticks of the sensor and of the conditions
    assert len(dev.runs()) == 5, "neither tried again nor gone on from"
    assert day not in [stored.day for stored in lake.days("cleaned_events")]
    assert len(lake.published("als_model")) == 2
