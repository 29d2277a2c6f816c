"""Generations of a tiny shop: each has a price of its own, so that what is stored tells which generation it is from.

Writers run one generation after the other; readers, which need no Spark, say which generation they see of each asset.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage import content
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import COMMITTED, REJECTED, FileEntry
from ecommerce_assets.storage.reading import choose
from ecommerce_assets.storage.writers import WRITERS
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
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
"""Spark settings for a child process that lives for a minute."""


def is_poisoned(generation: int) -> bool:
    """Every third generation has so many negative prices that no day of it may be published."""
    return generation % 3 == 0


def land(data_dir: Path, generation: int) -> None:
    """Replace the raw files of all days."""
    price, bad = float(generation), POISON_ROWS if is_poisoned(generation) else BAD_ROWS
    for day in DAYS:
        good = [_event(day, n, price) for n in range(GOOD_ROWS)]
        write_day(data_dir, day, good + [_event(day, n, -price) for n in range(bad)])


def _event(day: str, number: int, price: float) -> dict[str, Any]:
    kind = ("view", "cart", "purchase")[number % 3]
    time = f"{day} 10:{number // 60:02d}:{number % 60:02d}"
    return event(time, kind, user_id=number % USERS, product_id=number % 4, price=price)


def run(data_dir: Path, generation: int, assets: Sequence[str], spark: Any = None) -> dg.ExecuteInProcessResult:
    """Land a generation and materialise the assets over all its days; `spark` replaces the resource."""
    land(data_dir, generation)
    window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29)}
    defs = build_defs(load_settings(data_dir=str(data_dir), keep_versions=1, **window), {"spark": spark} if spark else {})
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={"ops": {"segmentation_model": {"config": {"seed": generation, "k": 2, "maxIter": 2}}}}
        if "segmentation_model" in assets
        else {},
        tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]},
        asset_selection=[dg.AssetKey(name) for name in assets],
        raise_on_error=not is_poisoned(generation),
    )
    assert result.success != is_poisoned(generation)
    return result


def seen(data_dir: Path) -> dict[str, int]:
    """The generation that readers see of each asset; absent where nothing is committed.

    AssertionError where what they see is a mixture, not whole, not as it was written, or was held back; any warning
    about a version that has to be skipped counts as such.
    """
    found = {}
    lake = Lake(str(data_dir), warn=_refuse)
    for asset in lake.assets():
        try:
            chosen = choose(lake, asset)
        except VersionNotFoundError:
            continue
        generations: set[int] = set()
        for manifest, files in chosen:
            folder = lake.folder(asset, manifest.version)
            assert content.fingerprint(folder, manifest.files) == manifest.fingerprint, f"{asset} {manifest.version}"
            generations |= _CONTENT[asset](Path(folder.path), files)
        assert len(generations) == 1, f"{asset} is a mixture of the generations {sorted(generations)}"
        [found[asset]] = generations
        assert asset == "rejected_events" or not is_poisoned(found[asset]), f"{asset} shows what an audit held back"
    return found


def leftovers(data_dir: Path) -> list[str]:
    """What a writer that died left behind: version folders without a manifest, and marks of writers."""
    found = []
    for asset in sorted((data_dir / "lake").glob("*")):
        found += [str(mark) for mark in (asset / WRITERS).glob("*")]
        for version in asset.glob("[!.]*"):
            if not (version / COMMITTED).exists() and not (version / REJECTED).exists():
                found.append(str(version))
            found += [str(path) for path in version.rglob("._*.json.*")]
    return found


def _refuse(message: str) -> None:
    raise AssertionError(message)


def _cleaned(folder: Path, files: Sequence[FileEntry]) -> set[int]:
    rows, prices = _rows_by_day(folder, files)
    assert rows == dict.fromkeys(DAYS, GOOD_ROWS), rows
    return {int(price) for price in prices}


def _rejected(folder: Path, files: Sequence[FileEntry]) -> set[int]:
    rows, prices = _rows_by_day(folder, files)
    found = {-int(float(price)) for price in prices}
    assert set(rows) == set(DAYS), rows
    assert all(set(rows.values()) == {POISON_ROWS if is_poisoned(g) else BAD_ROWS} for g in found), (found, rows)
    return found


def _rows_by_day(folder: Path, files: Sequence[FileEntry]) -> tuple[dict[str, int], set[Any]]:
    rows: Counter[str] = Counter()
    prices: set[Any] = set()
    for file in files:
        found = pq.read_table(folder / file.path, columns=["price"], partitioning=None)["price"].to_pylist()
        rows[file.path.partition("/")[0].removeprefix("event_date=")] += len(found)
        prices.update(found)
    return dict(rows), prices


def _user_features(folder: Path, files: Sequence[FileEntry]) -> set[int]:
    prices = [p for f in files for p in pq.read_table(folder / f.path, partitioning=None)["avg_price"].to_pylist()]
    assert len(prices) == USERS
    return {round(price) for price in prices}


def _segmentation_model(folder: Path, files: Sequence[FileEntry]) -> set[int]:
    """By the seed that K-Means was given; the stages' own folders must all be there."""
    stages = sorted({f.path.split("/")[2] for f in files if f.path.startswith("model/stages/")})
    assert [stage.split("_")[1] for stage in stages] == ["VectorAssembler", "StandardScaler", "KMeans"], stages
    [metadata] = [f for f in files if f.path.startswith(f"model/stages/{stages[-1]}/metadata/part-")]
    return {int(json.loads((folder / metadata.path).read_text())["paramMap"]["seed"])}


def _document(folder: Path, files: Sequence[FileEntry]) -> set[int]:
    [file] = files
    return {json.loads((folder / file.path).read_text())["generation"]}


_CONTENT: dict[str, Callable[[Path, Sequence[FileEntry]], set[int]]] = {
    "cleaned_events": _cleaned,
    "rejected_events": _rejected,
    "user_features": _user_features,
    "segmentation_model": _segmentation_model,
    "document": _document,
}
