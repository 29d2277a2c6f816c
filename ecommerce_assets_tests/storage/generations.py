"""Generations of a tiny shop: each has a different price, so that stored rows tell their generation.

Writers run one generation after the other; readers, without Spark, return the generation of each asset.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import VERSION_FOLDER, Lake, VersionNotFoundError
from ecommerce_assets_tests.helpers import event, write_day

DAYS = ("2019-10-01", "2019-10-02", "2019-10-03")
EVENTS = ("rejected_events", "cleaned_events")
ALL = (*EVENTS, "user_features", "segmentation_model")
USERS, GOOD_ROWS, BAD_ROWS, POISON_ROWS = 5, 20, 1, 80

FAST = {
    "spark.sql.shuffle.partitions": 1,
    "spark.default.parallelism": 1,
    "spark.sql.codegen.wholeStage": False,
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
}
"""Spark settings for a short child process."""


def is_poisoned(generation: int) -> bool:
    """Returns whether checks must block a generation: every third one has too many negative prices."""
    return generation % 3 == 0


def land(data_dir: Path, generation: int) -> None:
    """Replaces the raw files of all days."""
    price, bad = float(generation), POISON_ROWS if is_poisoned(generation) else BAD_ROWS
    for day in DAYS:
        good = [_event(day, n, price) for n in range(GOOD_ROWS)]
        write_day(data_dir, day, good + [_event(day, n, -price) for n in range(bad)])


def _event(day: str, number: int, price: float) -> dict[str, Any]:
    kind = ("view", "cart", "purchase")[number % 3]
    time = f"{day} 10:{number // 60:02d}:{number % 60:02d}"
    return event(time, kind, user_id=number % USERS, product_id=number % 4, price=price)


def run(data_dir: Path, generation: int, assets: Sequence[str], keep: int = 1) -> dg.ExecuteInProcessResult:
    """Lands a generation and materialises the assets over all its days."""
    land(data_dir, generation)
    return materialise(data_dir, generation, assets, keep)


def materialise(data_dir: Path, generation: int, assets: Sequence[str], keep: int = 1) -> dg.ExecuteInProcessResult:
    """Runs over all days of a landed generation. Fails if the run succeeds for a poisoned one, or the reverse."""
    window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29)}
    settings = load_settings(data_dir=str(data_dir), keep_versions=keep, **window)
    job = build_defs(settings).resolve_implicit_global_asset_job_def()
    model = {"segmentation_model": {"config": {"seed": generation, "k": 2, "maxIter": 2}}}
    result = job.execute_in_process(
        run_config={"ops": model} if "segmentation_model" in assets else {},
        tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]},
        asset_selection=[dg.AssetKey(name) for name in assets],
        raise_on_error=not is_poisoned(generation),
    )
    assert result.success != is_poisoned(generation)
    return result


Snapshot = dict[str, list[Path]]
"""The files of each asset that a reader chose."""


def snapshot(data_dir: Path) -> Snapshot:
    """Returns the files that readers get now. Fails on any warning: a kill damages no version."""
    lake = Lake(str(data_dir), warn=_refuse)
    chosen: Snapshot = {}
    for asset in lake.assets():
        with suppress(VersionNotFoundError):
            version = lake.latest(asset)
            days = lake.days(asset) if version.days else []
            files = [file for day in days for file in day.files] if days else lake.files(version)
            chosen[asset] = [Path(lake.asset(asset).path) / file.path for file in files]
    return chosen


def generations(chosen: Snapshot) -> dict[str, int]:
    """Returns the generation of each asset by the content of its files.

    Fails if it is a mixture, cannot be read, or should have been blocked.
    """
    result = {}
    for asset, files in chosen.items():
        numbers = _CONTENT[asset](files)
        assert len(numbers) == 1, f"{asset} is a mixture of the generations {sorted(numbers)}"
        [result[asset]] = numbers
        assert asset == "rejected_events" or not is_poisoned(result[asset]), f"{asset} has a blocked generation"
    return result


def seen(data_dir: Path) -> dict[str, int]:
    """Returns the generation that readers see of each published asset."""
    return generations(snapshot(data_dir))


def leftovers(data_dir: Path) -> list[str]:
    """Returns the files of killed writers: those in version folders that were never published."""
    lake, files = Lake(str(data_dir), warn=_refuse), []
    for asset in lake.assets():
        published = {version.folder for version in lake.published(asset)}
        for file in lake.asset(asset).all_files():
            folder = file.path.partition("/")[0]
            if (VERSION_FOLDER.fullmatch(folder) and folder not in published) or "/._commit.json." in file.path:
                files.append(f"{asset}/{file.path}")
    return files


def _refuse(message: str) -> None:
    raise AssertionError(message)


def _read(file: Path) -> pa.Table:
    return pq.ParquetFile(file, page_checksum_verification=True).read()


def _cleaned(files: Sequence[Path]) -> set[int]:
    rows, prices = _rows_by_day(files)
    assert rows == dict.fromkeys(DAYS, GOOD_ROWS), rows
    return {int(price) for price in prices}


def _rejected(files: Sequence[Path]) -> set[int]:
    rows, prices = _rows_by_day(files)
    found = {-int(float(price)) for price in prices}
    assert set(rows) == set(DAYS), rows
    assert all(set(rows.values()) == {POISON_ROWS if is_poisoned(g) else BAD_ROWS} for g in found), (found, rows)
    return found


def _rows_by_day(files: Sequence[Path]) -> tuple[dict[str, int], set[Any]]:
    rows: Counter[str] = Counter()
    prices: set[Any] = set()
    for file in files:
        found = _read(file)["price"].to_pylist()
        rows[file.parent.name.removeprefix("event_date=")] += len(found)
        prices.update(found)
    return dict(rows), prices


def _user_features(files: Sequence[Path]) -> set[int]:
    prices = [price for file in files for price in _read(file)["avg_price"].to_pylist()]
    assert len(prices) == USERS
    return {round(price) for price in prices}


def _segmentation_model(files: Sequence[Path]) -> set[int]:
    """Returns the seed of K-Means; fails if a stage is missing."""
    stages = sorted({file.parts[file.parts.index("stages") + 1] for file in files if "stages" in file.parts})
    assert [stage.split("_")[1] for stage in stages] == ["VectorAssembler", "StandardScaler", "KMeans"], stages
    [metadata] = [file for file in files if f"{stages[-1]}/metadata/part-" in str(file)]
    return {int(json.loads(metadata.read_text())["paramMap"]["seed"])}


def _document(files: Sequence[Path]) -> set[int]:
    [file] = files
    return {json.loads(file.read_text())["generation"]}


_CONTENT: dict[str, Callable[[Sequence[Path]], set[int]]] = {
    "cleaned_events": _cleaned,
    "rejected_events": _rejected,
    "user_features": _user_features,
    "segmentation_model": _segmentation_model,
    "document": _document,
}
