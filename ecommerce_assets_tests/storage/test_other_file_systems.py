"""Storage works on other file systems: without Spark on an S3 server, the graph on a second Hadoop file system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyspark.sql import SparkSession

from ecommerce_assets.cli import main
from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets.recommendation.als_model import LocalModel, SavedModel
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import delta, reading
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.inspection import verify
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.promoted import PROMOTED
from ecommerce_assets.storage.stored_asset import StoredAsset
from ecommerce_assets.storage.version import CheckResult, Input, Stats
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.helpers import event, run_graph, write_day
from ecommerce_assets_tests.stored import put_folder, put_table, version_of


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket() as uri:
        yield uri


@pytest.fixture
def lake(bucket: str, request: pytest.FixtureRequest) -> Lake:
    """Returns an empty data dir in a bucket."""
    return Lake(f"{bucket}/{request.node.name}")


def test_tables_are_published_day_by_day_and_read_by_delta(lake: Lake) -> None:
    rows = pa.table({"a": [1]})
    put_table(lake, "e", days={"2019-10-01": rows, "2019-10-02": rows})
    put_table(lake, "e", days={"2019-10-02": pa.table({"a": [2, 3]})})
    assert [(day.day, day.version.version, day.files[0].rows) for day in lake.days("e")] == [
        ("2019-10-01", "0", 1),
        ("2019-10-02", "1", 2),
    ]
    assert sorted(DeltaTable(lake.asset("e").uri).to_pyarrow_table()["a"].to_pylist()) == [1, 2, 3]
    assert not verify(lake).problems


def test_two_writers_that_start_from_one_version_both_publish(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put_table(lake, "a")
    first, opened = delta.open_table, []

    def open_while_another_publishes(table: Folder, version: int | None = None) -> DeltaTable:
        found = first(table, version)
        if not opened:
            opened.append(True)
            put_table(Lake(lake.data.uri), "a", run_id="the quicker one")
        return found

    monkeypatch.setattr(delta, "open_table", open_while_another_publishes)
    assert put_table(lake, "a", run_id="the slower one").version == "2"
    assert [version.run_id for version in lake.published("a")] == ["the slower one", "the quicker one", "run"]


def test_damage_is_found_and_the_previous_version_is_read(lake: Lake) -> None:
    for _ in range(2):
        put_table(lake, "a")
        put_folder(lake, "m")
    for asset in ("a", "m"):
        newest = lake.latest(asset)
        lake.asset(asset).remove_file(lake.files(newest)[0].path)
        assert Lake(lake.data.uri, lambda _: None).latest(asset).version != newest.version
    assert {problem.asset for problem in verify(lake).problems} == {"a", "m"}


def test_blocked_files_are_moved(lake: Lake) -> None:
    failed = CheckResult(name="unique_key", blocking=True, passed=False)
    blocked = version_of("e", Lake.new_folder(), days={"2019-10-01": Stats(rows=1)}, checks=(failed,))
    (lake.folder(blocked) / "event_date=2019-10-01").write_whole("part-0.parquet", b"x")
    place = lake.block(blocked)
    assert [file.path for file in place.data_files()] == ["event_date=2019-10-01/part-0.parquet"]
    put_table(lake, "e", days={"2019-10-01": pa.table({"a": [1]})})
    assert lake.blocked("e") == []


def test_a_document_is_written_by_its_io_manager(lake: Lake) -> None:
    manager = JsonIOManager(data_dir=lake.data.uri, catalog={"document": StoredAsset()}, spark=SparkResource())
    for number in range(2):
        context = dg.build_output_context(
            asset_key="document", asset_spec=dg.AssetSpec("document"), run_id="run", step_key="document"
        )
        assert list(manager.handle_output(context, {"number": number})) == []
    assert len(lake.published("document")) == 2
    assert json.loads(lake.folder(lake.latest("document")).read_bytes("document.json")) == {"number": 1}


def test_a_model_of_the_local_engine_is_saved_and_read(lake: Lake) -> None:
    rng = np.random.default_rng(0)
    users, products = (Factors(np.arange(n, dtype=np.int32), rng.random((n, 3), np.float32)) for n in (5, 4))
    folder = lake.root / "model"
    LocalModel(users, products).save(folder.uri)
    assert {file.path.partition("/")[0] for file in folder.data_files()} == {"metadata", "userFactors", "itemFactors"}
    saved = SavedModel(folder)
    for found, expected in ((saved.users, users), (saved.products, products)):
        assert found.indices.tolist() == expected.indices.tolist()
        assert found.vectors.tolist() == expected.vectors.tolist()


def test_the_commands_work_and_inputs_of_kept_versions_stay(lake: Lake) -> None:
    for _ in range(3):
        put_table(lake, "a")
    put_table(lake, "b", inputs=(Input(asset="a", version="0", fingerprint="f"),))

    def run(*arguments: str) -> tuple[int, str]:
        found = CliRunner().invoke(main, [*arguments, "--data-dir", lake.data.uri])
        return found.exit_code, found.stdout

    assert [line.split()[0] for line in run("versions", "a")[1].splitlines()[1:]] == ["2", "1", "0"]
    assert "a 0 (published" in run("lineage", "b")[1]
    assert run("verify")[0] == 0
    assert "removed a 1" in run("prune", "--keep", "0", "--grace-hours", "0")[1]
    assert [bool(lake.damage(version)) for version in lake.published("a")] == [False, True, False]
    assert run("versions", "nothing")[0] == 2


class ViewFileSystem(DirFileSystem):
    """Hadoop's view file system for fsspec: local files under other URIs."""

    protocol = "viewfs"
    cachable = False
    mounted_below = ""

    def __init__(self) -> None:
        super().__init__(path=self.mounted_below, fs=LocalFileSystem())


@pytest.fixture
def mounted(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns the local folder that is viewfs://shop/data for Spark and fsspec."""
    local = tmp_path / "shop" / "data"
    local.mkdir(parents=True)
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    link = "fs.viewfs.mounttable.shop.link./data"
    hadoop.set(link, local.as_uri())
    hadoop.set("fs.viewfs.impl.disable.cache", "true")
    monkeypatch.setattr(ViewFileSystem, "mounted_below", str(tmp_path))
    fsspec.register_implementation("viewfs", ViewFileSystem, clobber=True)
    # delta-rs does not know this file system: it gets the local folder.
    monkeypatch.setattr(delta, "delta_uri", lambda uri: str(tmp_path / uri.removeprefix("viewfs://")))
    checkpoints = spark.sparkContext.getCheckpointDir()
    spark.sparkContext.setCheckpointDir("viewfs://shop/data/.checkpoints")
    yield local
    spark.sparkContext.setCheckpointDir(str(checkpoints))
    hadoop.unset(link)


@pytest.mark.spark_only
@pytest.mark.parametrize(
    "assets",
    [
        pytest.param(("rejected_events", "cleaned_events", "user_features"), id="a few assets"),
        pytest.param(tuple(set(CATALOG) - {"raw_events"}), id="the whole graph", marks=pytest.mark.trial),
    ],
)
def test_the_graph_runs_on_another_hadoop_file_system(
    spark: SparkSession, mounted: Path, assets: tuple[str, ...]
) -> None:
    data_dir = "viewfs://shop/data"
    days = ("2019-10-01", "2019-10-02")
    for day in days:
        kinds = ("view", "cart", "purchase")
        made = [event(f"{day} 10:{n:02d}:00", kinds[n % 3], user_id=n % 4, product_id=n % 7) for n in range(28)]
        write_day(mounted, day, made)
    assert find_raw_events(data_dir, days).folder.uri.startswith(data_dir)
    # ALS checkpoints every tenth iteration.
    longer = {"ops": {"als_model": {"config": {"rank": 2, "maxIter": 11}}}} if "als_model" in assets else {}
    assert run_graph(data_dir, *days, select=assets, run_config=longer).success
    lake = Lake(data_dir)
    assert not Folder(data_dir).is_local
    assert set(lake.assets()) == {*assets, PROMOTED}
    assert verify(lake).problems == []
    for asset in lake.assets():
        version = lake.latest(asset)
        if version.kind == "table":
            assert reading.read(asset, data_dir=data_dir, spark=spark).count() == version.stats.rows
            assert set().union(*(version.column_lineage or {}).values()), asset
    lineages = {asset: lake.latest(asset).column_lineage or {} for asset in ("cleaned_events", "user_features")}
    assert lineages["cleaned_events"]["user_id"] == ("raw_events.user_id",)
    assert lineages["user_features"]["user_id"] == ("cleaned_events.user_id",)
    if "als_model" in assets:
        assert len(reading.read("segmentation_model", data_dir=data_dir, spark=spark).stages) == 3
        assert reading.read("als_model", data_dir=data_dir, spark=spark).rank == 2
        assert list((mounted / ".checkpoints").iterdir())
