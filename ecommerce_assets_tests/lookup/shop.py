"""A shop of a few rows, written without Spark: for what the shop of the fixture `ran` does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.schema import EVENTS
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import USER_FEATURES
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import FileEntry, Input, Manifest, Partition
from ecommerce_assets.storage.reading import arrow_schema
from ecommerce_assets_tests.helpers import commit

NOON = datetime(2019, 11, 1, 12, tzinfo=UTC)
SCHEMAS = {
    "cleaned_events": EVENTS,
    "user_features": USER_FEATURES,
    "segmented_users": SEGMENTED_USERS,
    "product_features": PRODUCT_FEATURES,
    "recommendations": RECOMMENDATIONS,
    "similar_products": SIMILAR_PRODUCTS,
}
Rows = Sequence[Mapping[str, Any]]


def publish(
    lake: Lake,
    asset: str,
    rows: Rows | Mapping[str, Rows],
    id_type: str = "bigint",
    version: str = "v1",
    minutes: int = 0,
    **changes: Any,
) -> Manifest:
    """Publish a version of a table, committed so many minutes after noon; columns that a row lacks are null.

    `rows` by day make a version of a daily table.
    """
    columns = {c.name: c.type for c in SCHEMAS[asset].with_id_type(id_type).columns}
    schema = arrow_schema(columns)
    by_day = rows if isinstance(rows, Mapping) else {"": rows}
    folder = lake.folder(asset, version)
    for day, of_day in by_day.items():
        if of_day or not day:
            full = [{name: row.get(name) for name in schema.names} for row in of_day]
            path = f"event_date={day}/part-0.parquet" if day else "part-0.parquet"
            folder.fs.makedirs(f"{folder.path}/{path.rpartition('/')[0]}", exist_ok=True)
            with folder.open(path, "wb") as target:
                pq.write_table(pa.Table.from_pylist(full, schema=schema), target)
    files = folder.data_files()
    fields: dict[str, Any] = {
        "committed_at": NOON + timedelta(minutes=minutes),
        "columns": columns,
        "rows": sum(map(len, by_day.values())),
        "bytes": sum(file.bytes for file in files),
        "files": tuple(FileEntry(path=file.path, bytes=file.bytes) for file in files),
        "partitions": {day: Partition(rows=len(of_day), bytes=1) for day, of_day in by_day.items() if day},
        **changes,
    }
    return commit(lake, asset, version, **fields)


def made_from(*versions: Manifest) -> tuple[Input, ...]:
    """What a version names that was made from these, all their days."""
    return tuple(
        Input(asset=m.asset, version=m.version, partitions=tuple(m.partitions), fingerprint=m.fingerprint)
        for m in versions
    )


def seen(
    time: str, user: Any, product: Any, event_type: str = "view", price: float = 9.5, **more: Any
) -> dict[str, Any]:
    """An event; `time` in UTC."""
    moment = datetime.fromisoformat(time).replace(tzinfo=UTC)
    return {
        "event_time": moment,
        "event_type": event_type,
        "user_id": user,
        "product_id": product,
        "price": price,
        **more,
    }


def user(user_id: Any, first: str, last: str, segment: str = "Active_Buyers") -> dict[str, Any]:
    """A row of segmented_users."""
    times = {"first_event_time": f"{first} 10:00", "last_event_time": f"{last} 10:00"}
    return {
        "user_id": user_id,
        **{name: datetime.fromisoformat(time).replace(tzinfo=UTC) for name, time in times.items()},
        **dict.fromkeys(("recency", "frequency", "monetary", "avg_price"), 1.0),
        **dict.fromkeys(("total_events", "views", "carts", "purchases", "segment_id"), 1),
        "segment": segment,
    }


def product(product_id: Any, category: str | None = "toys", brand: str | None = "acme") -> dict[str, Any]:
    """A row of product_features."""
    counts = dict.fromkeys(("total_views", "total_carts", "total_purchases", "unique_users"), 3)
    return {"product_id": product_id, "category": category, "brand": brand, "avg_price": 7.25, "revenue": 1.0, **counts}


def listed(user_id: Any, *products: Any, source: str = "als") -> list[dict[str, Any]]:
    """Rows of recommendations."""
    return [
        {"user_id": user_id, "rank": rank, "product_id": product_id, "score": 1 / rank, "source": source}
        for rank, product_id in enumerate(products, 1)
    ]


def small_shop(lake: Lake, ids: type = int) -> None:
    """Three days, users 7, 8 and 9: the model knows 7, and of 8 a part; two products, of which 100 has neighbours."""
    kind = "string" if ids is str else "bigint"
    seven, eight, nine, one, two = (ids(n) for n in (7, 8, 9, 100, 200))
    events = publish(
        lake,
        "cleaned_events",
        {
            "2019-10-01": [seen("2019-10-01 10:00", seven, one, "cart", brand="own", category_code="toys.bricks")],
            "2019-10-02": [seen("2019-10-02 10:00", eight, two), seen("2019-10-02 10:00", nine, two)],
            "2019-10-03": [seen("2019-10-03 10:00", seven, two)],
        },
        kind,
    )
    features = publish(lake, "user_features", [], kind, inputs=made_from(events))
    days = {seven: ("2019-10-01", "2019-10-03"), eight: ("2019-10-02",) * 2, nine: ("2019-10-02",) * 2}
    words = [{"segment_id": 1, "segment": "Active_Buyers", "description": "3 users (100 %) who buy."}]
    rows = [user(who, first, last) for who, (first, last) in days.items()]
    users = publish(lake, "segmented_users", rows, kind, inputs=made_from(features), facts={"segments": words})
    products = publish(lake, "product_features", [product(one), product(two, "tools", None)], kind)
    lists = [*listed(seven, one, two), *listed(eight, one), *listed(nine, one, two, source="segment_popular")]
    lists.append({"user_id": eight, "rank": 2, "product_id": two, "score": 0.1, "source": "popular"})
    publish(lake, "recommendations", lists, kind, inputs=made_from(users, products))
    near = {"product_id": one, "rank": 1, "similar_product_id": two, "similarity": 0.5, "similar_category": "tools"}
    publish(lake, "similar_products", [near], kind, inputs=made_from(products))
