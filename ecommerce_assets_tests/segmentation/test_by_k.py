"""The quality by k, with too few users too; its checks and its job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.segmentation.by_k import quality_by_k
from ecommerce_assets.segmentation.checks import SEGMENTATION_BY_K_CHECKS
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, fit_segmentation
from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import read_document
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.segmentation.test_pipeline import CASUAL, DORMANT, VIP, three_groups, users_frame


def test_quality_of_a_k_is_that_of_the_model(spark: SparkSession) -> None:
    users, lines = StoredTable(users_frame(spark, three_groups())), list[str]()
    two, three = quality_by_k(users, {3, 2}, SegmentationParameters(), lines.append, Engine.local)
    assert [(each.k, each.clusters, each.reason) for each in (two, three)] == [(2, 2, None), (3, 3, None)]
    fit = fit_segmentation(users, SegmentationParameters(k=3), Engine.local)
    assert three.silhouette == pytest.approx(fit.silhouette, abs=1e-12)
    assert three.cost == pytest.approx(fit.cost)
    assert three.cost < two.cost
    assert lines[-1].startswith(f"segmentation_by_k: 2 of 2 fits, 100 %, k = 3, silhouette {three.silhouette:.3f}")


def test_without_enough_users_there_is_a_reason_and_no_silhouette(spark: SparkSession) -> None:
    users = users_frame(spark, [(n, *(VIP, DORMANT, CASUAL)[n % 3]) for n in range(9)])
    three, five = quality_by_k(StoredTable(users), [3, 5], SegmentationParameters(), print, Engine.local)
    assert (three.silhouette, three.reason) == (pytest.approx(1.0), None)
    assert (five.silhouette, five.reason) == (None, "fewer than 5 different users")


def failed(*changed: dict[str, Any], k_in_use: int = 5) -> dict[str, str]:
    entry = {"silhouette": 0.5, "reason": None}
    by_k = [{**entry, "k": k, "cost": 100.0 - k} for k in range(2, 11)]
    for number, change in enumerate(changed):
        by_k[number] |= change
    context = CheckContext(Stats(), document={"k_in_use": k_in_use, "by_k": by_k})
    return {r.name: r.message for r in run_checks(SEGMENTATION_BY_K_CHECKS, context) if not r.passed}


def test_checks_find_wrong_entries() -> None:
    assert failed() == {}
    assert failed({"silhouette": None, "reason": "there are too few users"}) == {}
    assert failed({"silhouette": None}, {"silhouette": 1.1}) == {"silhouettes_in_range": "k = 2: None; k = 3: 1.1"}
    assert failed({"cost": float("nan")}) == {"costs_finite": "k = 2: nan"}
    assert list(failed({}, {"cost": 98.5})) == ["costs_fall"]
    assert list(failed(k_in_use=12)) == ["every_k_once"]


@pytest.mark.trial
def test_the_job_stores_quality_by_k(ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path) -> None:
    shutil.copytree(ran[0], tmp_path / "shop")
    job = build_defs(load_settings(data_dir=str(tmp_path / "shop"))).resolve_job_def("segmentation_by_k")
    result = job.execute_in_process()
    assert [(e.check_name, e.passed) for e in result.get_asset_check_evaluations() if e.blocking and not e.passed] == []
    lake = Lake(str(tmp_path / "shop"))
    version = lake.latest("segmentation_by_k")
    document = read_document(lake, version)
    assert [entry["k"] for entry in document["by_k"]] == list(range(2, 11))
    assert document["k_in_use"] == 5
    assert {i.asset for i in version.inputs} == {"user_features", "segmentation_model"}
    [event] = result.asset_materializations_for_node("try_each_k")
    assert {"quality by k", "plots"} <= set(event.metadata)
