"""Both feature tables conserve events and money and do not depend on the order of the events."""

import datetime as dt
import math
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.product_features import build_product_features
from ecommerce_assets.features.user_features import build_user_features
from ecommerce_assets_tests.helpers import event, events_frame

EVENTS = st.builds(
    event,
    time=st.datetimes(min_value=dt.datetime(2019, 10, 1), max_value=dt.datetime(2019, 12, 29)).map(str),
    event_type=st.sampled_from(["view", "cart", "remove_from_cart", "purchase"]),
    product_id=st.integers(1, 5),
    user_id=st.integers(1, 5),
    price=st.integers(0, 10**9).map(lambda cents: cents / 100),
    brand=st.none() | st.sampled_from(["a", "b"]),
    category_code=st.none() | st.sampled_from(["a.b", "c"]),
    category_id=st.none() | st.integers(1, 3),
    user_session=st.none() | st.sampled_from(["s", "t"]),
)


def totals(features: DataFrame, *columns: str) -> tuple[Any, ...]:
    return tuple(features.selectExpr(*[f"coalesce(sum({column}), 0)" for column in columns]).collect()[0])


@settings(max_examples=3, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_events_and_money_are_conserved(spark: SparkSession, events: list[dict[str, Any]]) -> None:
    frame = events_frame(spark, events)
    users = totals(
        build_user_features(frame), "total_events", "views + carts + removals + purchases", "purchases", "monetary"
    )
    products = totals(
        build_product_features(frame),
        "total_events",
        "total_views + total_carts + total_removals + total_purchases",
        "total_purchases",
        "revenue",
    )
    bought = [e["price"] for e in events if e["event_type"] == "purchase"]
    assert users[:3] == products[:3] == (len(events), len(events), len(bought))
    assert math.isclose(users[3], products[3], rel_tol=1e-9)
    assert math.isclose(users[3], math.fsum(bought), rel_tol=1e-9)


def test_order_of_events_does_not_matter_and_ids_may_be_texts(spark: SparkSession) -> None:
    draw = random.Random(7)
    events = [
        event(
            f"2020-01-{draw.randint(1, 5):02d} {draw.randint(0, 3):02d}:00:00",
            draw.choice(["view", "cart", "remove_from_cart", "purchase"]),
            product_id=draw.randint(1, 5),
            user_id=draw.randint(1, 5),
            price=draw.randint(0, 100_000) / 100,
            brand=draw.choice([None, "a", "b", "c"]),
            category_code=draw.choice([None, "a.x", "a.y", "b", "c.z.w"]),
            category_id=draw.choice([None, 1, 2]),
        )
        for _ in range(300)
    ]
    for build, key in ((build_user_features, "user_id"), (build_product_features, "product_id")):
        tables = []
        for shuffled in (events, draw.sample(events, len(events))):
            frame = events_frame(spark, shuffled).withColumn(key, F.concat(F.lit("x"), key)).repartition(3)
            tables.append(sorted(tuple(row) for row in build(frame).collect()))
        assert tables[0] == tables[1]
        assert [row[0] for row in tables[0]] == [f"x{n}" for n in range(1, 6)]
