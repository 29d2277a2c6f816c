"""Nothing takes for granted that files lie on a local disk.

What needs no Spark runs in memory and on an S3 server; the whole graph runs on a second Hadoop file system.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import content, reading
from ecommerce_assets.storage.__main__ import main
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import COMMITTED, FileEntry, Input, Manifest, Partition
from ecommerce_assets.storage.retention import is_leftover, prune
from ecommerce_assets.storage.verification import verify
from ecommerce_assets.storage.writers import SILENCE
from ecommerce_assets_tests.helpers import commit, event, run_graph, write_day

NO_GRACE = timedelta(0)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "s3a"])
def data_dir(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty data dir that is no folder of this machine."""
    if request.param == "memory":
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        yield "memory://shop/data"
        return
    for name, value in {
        "AWS_ENDPOINT_URL": request.getfixturevalue("s3_server"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket.mkdir("shop")
    yield "s3a://shop/data"
    bucket.rm("shop", recursive=True)


def store(lake: Lake, asset: str, version: str, minutes: int, days: tuple[str, ...] = (), **changes: Any) -> Manifest:
    """Write and publish a version with one row per file that says which version it is of."""
    folder = lake.folder(asset, version)
    for path in [f"event_date={day}/part-0.parquet" for day in days] or ["part-0.parquet"]:
        with folder.open(path, "wb") as target:
            pq.write_table(pa.table({"version": [version]}), target)
    files = folder.data_files()
    fields: dict[str, Any] = {
        "committed_at": NOON + timedelta(minutes=minutes),
        "columns": {"version": "string"},
        "rows": len(files),
        "bytes": sum(f.bytes for f in files),
        "files": tuple(FileEntry(path=f.path, bytes=f.bytes) for f in files),
        "fingerprint": content.fingerprint(folder, files),
        "partitions": {day: Partition(rows=1, bytes=files[0].bytes) for day in days},
        **changes,
    }
    return commit(lake, asset, version, **fields)


def names(number: int) -> list[str]:
    return [f"20260101_12{n:02d}00_0000000{n}" for n in range(number)]


def versions_read(asset: str, data_dir: str) -> list[str]:
    """What pandas and others find in the files that they are told to read."""
    found = []
    for uri in reading.paths(asset, data_dir=data_dir):
        with fsspec.open(uri) as source:
            found += pq.read_table(source)["version"].to_pylist()
    assert reading.dataset(asset, data_dir=data_dir).to_table()["version"].to_pylist() == found
    return found


def test_the_latest_whole_version_is_read(data_dir: str) -> None:
    warnings: list[str] = []
    lake, (first, second, third) = Lake(data_dir, warnings.append), names(3)
    assert lake.assets() == []
    store(lake, "a", first, 0)
    store(lake, "a", second, 1)
    with lake.folder("a", third).open("part-0.parquet", "wb") as target:
        target.write(b"being written")
    assert Lake(data_dir).latest("a").version == second
    assert versions_read("a", data_dir) == [second]
    with lake.folder("a", second).open("part-0.parquet", "wb") as target:
        target.write(b"damaged")
    assert lake.latest("a").version == first
    assert "damaged" in warnings[0]
    assert versions_read("a", data_dir) == [first]
    assert reading.paths("a", version=first, data_dir=data_dir) == [f"{data_dir}/lake/a/{first}/part-0.parquet"]


def test_days_come_each_from_the_version_that_serves_it(data_dir: str) -> None:
    lake, (first, second, _) = Lake(data_dir), names(3)
    store(lake, "daily", first, 0, ("2019-10-01", "2019-10-02"))
    store(lake, "daily", second, 1, ("2019-10-02",))
    assert [(d.day, d.manifest.version) for d in lake.days("daily")] == [("2019-10-01", first), ("2019-10-02", second)]
    assert sorted(versions_read("daily", data_dir)) == [first, second]


def test_what_is_superseded_goes_and_a_silent_writer_is_taken_for_dead_after_a_day(data_dir: str) -> None:
    lake, versions = Lake(data_dir), names(4)
    for minutes, version in enumerate(versions[:3]):
        store(lake, "a", version, minutes)
    store(lake, "b", versions[0], 1, inputs=(Input(asset="a", version=versions[0], fingerprint="f"),))
    lake.folder("a", versions[3]).write_whole("part-0.parquet", b"being written")
    assert [r.version for r in prune(lake, keep=0, grace=NO_GRACE)] == [versions[1]], "b was made from the first one"
    assert Lake(data_dir).versions("a") == [versions[0], versions[2], versions[3]]
    now = datetime.now(UTC)
    assert not is_leftover(lake, "a", versions[3], now)
    assert is_leftover(lake, "a", versions[3], now + SILENCE + timedelta(minutes=1))
    lake.remove("a", versions[3])
    assert Lake(data_dir).versions("a") == [versions[0], versions[2]]


def test_damage_is_found(data_dir: str) -> None:
    lake, (first, second, third) = Lake(data_dir), names(3)
    for minutes, version in enumerate((first, second, third)):
        store(lake, "a", version, minutes)
    assert not verify(lake).damaged
    size = lake.latest("a").bytes
    with lake.folder("a", first).open("part-0.parquet", "wb") as target:
        target.write(b"x" * size)
    lake.folder("a", second).remove_file("part-0.parquet")
    lake.folder("a", third).write_whole(COMMITTED, b"{]")
    found = verify(Lake(data_dir))
    assert [(f.version, f.damage) for f in found.findings] == [(first, True), (second, True), (third, True)]


def test_a_document_is_written_by_its_io_manager(data_dir: str) -> None:
    for number in range(2):
        context = dg.build_output_context(
            asset_key="document",
            asset_spec=dg.AssetSpec("document"),
            run_id="run",
            step_key="document",
            resources={"spark": dg.ResourceDefinition.hardcoded_resource(SparkResource())},
        )
        JsonIOManager(data_dir, {"document": AssetSpec()}).handle_output(context, {"number": number})
    lake = Lake(data_dir)
    assert len(lake.committed("document")) == 2
    folder = lake.folder("document", lake.latest("document").version)
    assert json.loads(folder.read_bytes("document.json")) == {"number": 1}
    assert not verify(lake).findings


def test_the_command_line_works(data_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    lake, (first, second, third) = Lake(data_dir), names(3)
    for minutes, version in enumerate((first, second, third)):
        store(lake, "a", version, minutes)
    store(lake, "b", first, 3, inputs=(Input(asset="a", version=second, fingerprint="f"),))
    assert main(["versions", "a", "--data-dir", data_dir]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [third, second, first]
    assert main(["lineage", "b", "--data-dir", data_dir]) == 0
    assert f"a {second}" in capsys.readouterr().out
    assert main(["verify", "--data-dir", data_dir]) == 0
    assert main(["prune", "--keep", "0", "--grace-hours", "0", "--data-dir", data_dir]) == 0
    assert f"removed a {first}" in capsys.readouterr().out
    assert main(["versions", "nothing", "--data-dir", data_dir]) == 2


class ViewFileSystem(DirFileSystem):
    """What Hadoop's view file system is to fsspec: the same files under other URIs, and not to be taken for local."""

    protocol = "viewfs"
    cachable = False
    mounted_below = ""

    def __init__(self) -> None:
        super().__init__(path=self.mounted_below, fs=LocalFileSystem())


class DyingFileSystem(ViewFileSystem):
    """Its writer dies in the middle of every file."""

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        super().pipe_file(path, value[: len(value) // 2], **options)
        raise KeyboardInterrupt


def test_half_a_manifest_is_never_seen_where_files_can_be_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ViewFileSystem, "mounted_below", str(tmp_path))
    fsspec.register_implementation("viewfs", ViewFileSystem, clobber=True)
    warnings: list[str] = []
    lake, (first, second, _) = Lake("viewfs://shop/data", warnings.append), names(3)
    for version in (first, second):
        (tmp_path / "shop" / "data" / "lake" / "a" / version).mkdir(parents=True)
    store(lake, "a", first, 0)
    fsspec.register_implementation("viewfs", DyingFileSystem, clobber=True)
    with pytest.raises(KeyboardInterrupt):
        store(lake, "a", second, 1)
    assert (lake.latest("a").version, warnings) == (first, [])
    assert is_leftover(lake, "a", second, datetime.now(UTC) + SILENCE + timedelta(minutes=1))


@pytest.fixture
def mounted(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The local folder that is viewfs://shop/data for Spark and for fsspec."""
    local = tmp_path / "shop" / "data"
    local.mkdir(parents=True)
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    link = "fs.viewfs.mounttable.shop.link./data"
    hadoop.set(link, local.as_uri())
    hadoop.set("fs.viewfs.impl.disable.cache", "true")
    monkeypatch.setattr(ViewFileSystem, "mounted_below", str(tmp_path))
    fsspec.register_implementation("viewfs", ViewFileSystem, clobber=True)
    checkpoints = spark.sparkContext.getCheckpointDir()
    spark.sparkContext.setCheckpointDir("viewfs://shop/data/.checkpoints")
    yield local
    spark.sparkContext.setCheckpointDir(str(checkpoints))
    hadoop.unset(link)


@pytest.mark.parametrize(
    "assets",
    [
        pytest.param(("rejected_events", "cleaned_events", "user_features", "segmentation_model"), id="a few assets"),
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
    assert set(lake.assets()) == set(assets)
    assert verify(lake).findings == []
    for asset in lake.assets():
        manifest = lake.latest(asset)
        assert all(uri.startswith(f"{data_dir}/lake/{asset}/") for uri in reading.paths(asset, data_dir=data_dir))
        if manifest.format == "parquet":
            assert reading.read(asset, data_dir=data_dir, spark=spark).count() == manifest.rows
            assert set().union(*manifest.column_lineage.values()), asset
    assert lake.latest("cleaned_events").column_lineage["user_id"] == ("raw_events.user_id",)
    assert lake.latest("user_features").column_lineage["user_id"] == ("cleaned_events.user_id",)
    assert len(reading.read("segmentation_model", data_dir=data_dir, spark=spark).stages) == 3
    if "als_model" in assets:
        assert reading.read("als_model", data_dir=data_dir, spark=spark).rank == 2
        assert list((mounted / ".checkpoints").iterdir()), "checkpoints lie where they were asked for"
    assert not list((mounted / "lake").rglob(".writers")), "no lock where there are no locks"
