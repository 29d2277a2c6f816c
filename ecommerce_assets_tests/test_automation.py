"""From a landed day to new recommendations without a command: the conditions alone, and the real daemon."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.alerts import materialized_assets
from ecommerce_assets.definitions import CATALOG, build_defs
from ecommerce_assets.events.landing import land
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.daemon import Dev, dagster_dev, shop_settings

CLEANING = ("cleaned_events", "rejected_events")
REFRESHED = set(CATALOG) - {"raw_events", "product_catalog", *CLEANING}


class Conditions:
    """The conditions of the whole graph, evaluated tick by tick against an instance."""

    def __init__(self, instance: dg.DagsterInstance, data_dir: Path) -> None:
        days = {"first_day": date(2019, 10, 1), "last_day": date(2019, 12, 29)}
        self.defs = build_defs(load_settings(data_dir=str(data_dir), **days))
        self.instance, self.cursor = instance, None
        self.graph = self.defs.resolve_asset_graph()

    def tick(self) -> set[str]:
        """Returns the assets that are requested, all in one run."""
        evaluation = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = evaluation.cursor
        return {result.key.to_user_string() for result in evaluation.results if not result.true_subset.is_empty}

    def report(self, assets: Iterable[str], days: Sequence[str] = ()) -> None:
        """Reports materialisations, and checks that pass."""
        for asset in assets:
            for day in days or (None,):
                self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))
            self.report_checks(asset)

    def report_checks(self, asset: str, failed: str = "") -> None:
        """Reports the checks of an asset; the named one fails. Without a materialisation, the version is blocked."""
        for key in self.graph.get_check_keys_for_assets({dg.AssetKey(asset)}):
            passed = key.name != failed
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=passed)
            )

    def run(self, made: Iterable[str], failed: Iterable[str] = (), tags: dict[str, str] | None = None) -> str:
        """Executes a run that materialises assets, in topological order, and fails before others; returns its id."""
        order = [key.to_user_string() for key in self.graph.toposorted_asset_keys]
        made, failed = sorted(made, key=order.index), list(failed)

        @dg.multi_asset(name="refresh", specs=[dg.AssetSpec(name) for name in [*made, *failed]])
        def refresh() -> Iterator[dg.MaterializeResult[None]]:
            for name in made:
                yield dg.MaterializeResult(asset_key=name)
            if failed:
                raise RuntimeError("The run failed.")

        result = dg.materialize([refresh], instance=self.instance, tags=tags, raise_on_error=False)
        for name in made:
            self.report_checks(name)
        return result.run_id


@pytest.fixture
def conditions(tmp_path: Path) -> Iterator[Conditions]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Conditions(instance, tmp_path)


def test_new_days_refresh_everything_in_one_run_and_a_changed_catalogue_the_lists(conditions: Conditions) -> None:
    assert conditions.tick() == set()
    conditions.report(CLEANING, ["2019-11-05", "2019-11-06", "2019-11-09"])
    assert conditions.tick() == REFRESHED  # although most days of the partitions are missing
    assert conditions.tick() == set()
    conditions.report(REFRESHED)
    conditions.tick()
    assert conditions.tick() == set()
    conditions.report(["product_catalog"])
    lists = {"product_eligibility", "recommendations", "similar_products", "product_pairs", "training_metadata"}
    assert conditions.tick() == lists
    assert conditions.tick() == set()
    conditions.report(CLEANING, ["2019-11-10"])
    assert conditions.tick() == REFRESHED


def test_a_blocked_day_does_not_delay_the_others(conditions: Conditions) -> None:
    conditions.report(CLEANING, ["2019-11-05"])
    assert conditions.tick() == REFRESHED  # although the day came before the first tick
    conditions.report(REFRESHED)
    assert conditions.tick() == set()
    # As a run over three days reports it: 2019-11-06 is blocked.
    conditions.report(CLEANING, ["2019-11-05", "2019-11-07"])
    conditions.report_checks("cleaned_events", failed="few_rejected")
    assert conditions.tick() == REFRESHED
    conditions.report(REFRESHED)
    assert conditions.tick() == set()
    conditions.report(CLEANING, ["2019-11-06"])
    assert conditions.tick() == REFRESHED


def test_a_blocked_model_refreshes_nothing_downstream(conditions: Conditions) -> None:
    conditions.report(CLEANING, ["2019-11-05"])
    conditions.report(REFRESHED)
    conditions.tick()
    conditions.report(CLEANING, ["2019-11-06"])
    assert conditions.tick() == REFRESHED
    blocked = {"als_evaluation", "blend_model", "recommendations", "training_metadata"}
    conditions.run(REFRESHED - blocked, blocked)
    conditions.report_checks("als_evaluation", failed="not_worse_than_best_baseline")
    assert [conditions.tick(), conditions.tick()] == [set(), set()]
    conditions.report(CLEANING, ["2019-11-07"])
    assert conditions.tick() == REFRESHED


@pytest.mark.trial
def test_a_landed_day_becomes_new_recommendations_and_a_blocked_day_does_not(
    tmp_path: Path, days_of_events: list[Path]
) -> None:
    shop = tmp_path / "shop"
    *first, late, last = days_of_events
    land([str(path) for path in first], shop)
    lake = Lake(str(shop))

    def assets_of(dev: Dev, run: dg.DagsterRun) -> set[str]:
        return materialized_assets(dev.instance, run)

    with dagster_dev(tmp_path, shop_settings(shop)) as dev:
        first_metadata = dev.wait_for(
            "metadata of the first batch", lambda: lake.latest_or_none("training_metadata"), 600
        )
        dev.wait_for("end of the runs", dev.is_idle, 60)
        cleaning, training = dev.runs()
        assert assets_of(dev, cleaning) == set(CLEANING)
        assert assets_of(dev, training) == REFRESHED

        started = time.monotonic()
        land([str(late)], shop)
        dev.wait_for("metadata", lambda: lake.latest("training_metadata").version != first_metadata.version, 600)
        print(f"from landing to new recommendations and metadata: {time.monotonic() - started:.0f} s")
        dev.wait_for("end of the runs", dev.is_idle, 60)
        cleaning, training = dev.runs()[2:]
        assert cleaning.tags["dagster/asset_partition_range_start"] == late.stem  # only the new day is cleaned
        assert assets_of(dev, training) == REFRESHED
        assert len(lake.published("als_model")) == 2
        assert [day.day for day in lake.days("cleaned_events")] == [path.stem for path in [*first, late]]

        invalid = tmp_path / last.name
        invalid.write_text(last.read_text().replace("purchase", "sold").replace("view", "looked"))
        land([str(invalid)], shop)
        dev.wait_for("the run over the invalid day", lambda: len(dev.runs()) == 5 and dev.is_idle(), 300)
        assert dev.runs()[4].status is dg.DagsterRunStatus.FAILURE
        time.sleep(65)  # two ticks of every sensor
        assert len(dev.runs()) == 5
        assert last.stem not in [day.day for day in lake.days("cleaned_events")]
        assert len(lake.published("als_model")) == 2
