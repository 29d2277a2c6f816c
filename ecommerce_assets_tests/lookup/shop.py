"""Tables of a few rows, published without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ecommerce_assets.events.schema import EVENTS
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import USER_FEATURES
from ecommerce_assets.recommendation.product_eligibility import PRODUCT_ELIGIBILITY
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.segmentation.customer_groups import CUSTOMER_GROUPS
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Input, Stats, Version
from ecommerce_assets_tests.helpers import put_table

TABLES = {
    "cleaned_events": EVENTS,
    "user_features": USER_FEATURES,
    "segmented_users": SEGMENTED_USERS,
    "customer_groups": CUSTOMER_GROUPS,
    "product_features": PRODUCT_FEATURES,
    "product_eligibility": PRODUCT_ELIGIBILITY,
    "recommendations": RECOMMENDATIONS,
    "similar_products": SIMILAR_PRODUCTS,
    "product_pairs": PRODUCT_PAIRS,
}
ARROW_TYPES = {
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "string": pa.string(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us", "UTC"),
}
Rows = Sequence[Mapping[str, Any]]


def publish(lake: Lake, asset: str, rows: Rows | Mapping[str, Rows], id_type: str = "bigint", **fields: Any) -> Version:
    """Publishes a version of a table; missing columns are null. Rows by day are for daily tables."""
    schema = pa.schema([(c.name, ARROW_TYPES[c.type]) for c in TABLES[asset].with_id_type(id_type).columns])

    def table(rows: Rows) -> pa.Table:
        return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)

    if isinstance(rows, Mapping):
        return put_table(lake, asset, days={day: table(day_rows) for day, day_rows in rows.items()}, **fields)
    return put_table(lake, asset, table(rows), **fields)


def made_from(*versions: Version) -> tuple[Input, ...]:
    """Returns the inputs of a version that was made from these versions, with all their days."""
    return tuple(
        Input(asset=v.asset, version=v.version, partitions=tuple(v.days), fingerprint=v.folder) for v in versions
    )


def seen(
    time: str, user: Any, product: Any, event_type: str = "view", price: float = 9.5, **more: Any
) -> dict[str, Any]:
    """Returns an event; `time` is in UTC."""
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
    """Returns a row of segmented_users."""
    times = {"first_event_time": f"{first} 10:00", "last_event_time": f"{last} 10:00"}
    return {
        "user_id": user_id,
        **{name: datetime.fromisoformat(time).replace(tzinfo=UTC) for name, time in times.items()},
        **dict.fromkeys(("recency", "frequency", "monetary", "avg_price"), 1.0),
        **dict.fromkeys(("total_events", "views", "carts", "purchases", "segment_id"), 1),
        "segment": segment,
    }


def product(product_id: Any, category: str | None = "toys", brand: str | None = "acme") -> dict[str, Any]:
    """Returns a row of product_features."""
    counts = dict.fromkeys(("total_views", "total_carts", "total_purchases", "unique_users"), 3)
    return {"product_id": product_id, "category": category, "brand": brand, "avg_price": 7.25, "revenue": 1.0, **counts}


def listed(user_id: Any, *products: Any, source: str = "als", because: Any = None) -> list[dict[str, Any]]:
    """Returns rows of recommendations."""
    common = {"user_id": user_id, "source": source, "because_product_id": because}
    return [
        {"rank": rank, "product_id": product_id, "score": 1 / rank, **common}
        for rank, product_id in enumerate(products, 1)
    ]


def paired(product_id: Any, kind: str, *products: Any) -> list[dict[str, Any]]:
    """Returns rows of product_pairs."""
    numbers = {"baskets": 3, "support": 0.125, "confidence": 0.25, "lift": 2.0}
    return [
        {"product_id": product_id, "kind": kind, "rank": rank, "pair_product_id": other, **numbers}
        for rank, other in enumerate(products, 1)
    ]


NEAR = {"product_id": 100, "rank": 1, "similar_product_id": 200, "similarity": 0.5, "similar_category": "tools"}


def small_shop(lake: Lake, ids: type = int) -> Version:
    """Publishes three days with two products and three users, and returns the version of recommendations.

    User 7 has recommendations of ALS, user 9 popular products, user 8 both. Product 100 has a similar product.
    """
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
    stats = Stats(rows=len(rows), results={"segments": words})
    users = publish(lake, "segmented_users", rows, kind, inputs=made_from(features), stats=stats)
    products = publish(lake, "product_features", [product(one), product(two, "tools", None)], kind)
    lists = [*listed(seven, one, two, because=two), *listed(eight, one)]
    lists += listed(nine, one, two, source="segment_popular")
    lists.append({"user_id": eight, "rank": 2, "product_id": two, "score": 0.1, "source": "popular"})
    recommendations = publish(lake, "recommendations", lists, kind, inputs=made_from(users, products))
    near = {**NEAR, "product_id": one, "similar_product_id": two}
    publish(lake, "similar_products", [near], kind, inputs=made_from(products))
    return recommendations
