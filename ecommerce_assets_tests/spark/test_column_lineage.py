"""Column lineage: by hand for two assets, as a property for all, and for each kind of node of a plan."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.spark.column_lineage import made_from, trace
from ecommerce_assets.spark.connect import spark_path
from ecommerce_assets.storage.lake import Lake

TYPE, TIME, PRICE = "cleaned_events.event_type", "cleaned_events.event_time", "cleaned_events.price"
USER, PRODUCT = "cleaned_events.user_id", "cleaned_events.product_id"

pytestmark = pytest.mark.spark_only

USER_FEATURES = {
    "user_id": {USER},
    "recency": {TIME},
    "frequency": {TIME},
    "monetary": {TYPE, PRICE},
    "total_events": {USER},
    "views": {TYPE},
    "carts": {TYPE},
    "removals": {TYPE},
    "purchases": {TYPE},
    "unique_products": {PRODUCT},
    "unique_categories": {"cleaned_events.category_id"},
    "unique_brands": {"cleaned_events.brand"},
    "unique_sessions": {"cleaned_events.user_session"},
    "avg_price": {PRICE},
    "conversion_rate": {TYPE},
    "cart_abandonment": {TYPE},
    "first_event_time": {TIME},
    "last_event_time": {TIME},
    "purchase_recency": {TIME, TYPE},
    "purchase_days": {TIME, TYPE},
    "avg_purchase_day_value": {TIME, TYPE, PRICE},
    "days_between_purchases": {TIME, TYPE},
}

EXTERNAL = ("raw_events", "product_catalog")

SCORED_BY = {
    "als_model.userFactors.features",
    "als_model.itemFactors.id",
    "als_model.itemFactors.features",
    # The history of the user, and the users of each product.
    "interaction_data.user_idx",
    "interaction_data.product_idx",
    "interaction_data.rating",
    "interaction_data.interaction_count",
    "interaction_data.purchases",
    "interaction_data.last_interaction_at",
    "item_neighbours.product_id",
    "item_neighbours.neighbour_id",
    "item_neighbours.similarity",
    "product_features.product_id",
    "product_features.category_id",
    "product_features.category",
    "segmented_users.segment",
    *(f"product_eligibility.{name}" for name in ("product_id", "category", "brand", "in_catalog", "eligible")),
}
RECOMMENDATIONS = {
    "user_id": {"segmented_users.user_id"},
    "rank": SCORED_BY,
    "product_id": {"product_index.product_id"} | SCORED_BY,
    "score": SCORED_BY,
    "source": SCORED_BY,
    "because_product_id": {"product_index.product_id"} | SCORED_BY,
}


@pytest.mark.parametrize(("asset", "by_hand"), [("user_features", USER_FEATURES), ("recommendations", RECOMMENDATIONS)])
def test_the_lineage_of_an_asset_is_the_one_written_by_hand(
    ran: tuple[Path, dg.ExecuteInProcessResult], asset: str, by_hand: dict[str, set[str]]
) -> None:
    found = Lake(str(ran[0])).latest(asset).column_lineage or {}
    assert {column: set(sources) for column, sources in found.items()} == by_hand


@pytest.mark.parametrize(
    "asset", [name for name, stored in CATALOG.items() if stored.column_names and name not in EXTERNAL]
)
def test_every_column_is_a_constant_or_has_sources_that_exist(
    ran: tuple[Path, dg.ExecuteInProcessResult], asset: str
) -> None:
    version, stored = Lake(str(ran[0])).latest(asset), CATALOG[asset]
    lineage = version.column_lineage or {}
    assert list(lineage) == list(version.columns or ()) == stored.column_names
    constants = {c.name for c in stored.table.columns if c.constant} if stored.table else set()
    assert {column for column, sources in lineage.items() if not sources} == constants
    read = {"product_catalog", *(entry.asset for entry in version.inputs)}  # also without a catalogue
    for upstream, _, column in (source.partition(".") for sources in lineage.values() for source in sources):
        assert upstream in read
        assert column in CATALOG[upstream].column_names


def test_the_ui_gets_the_standard_metadata_and_a_table(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    [event] = ran[1].asset_materializations_for_node("user_features")
    lineage = event.metadata["dagster/column_lineage"]
    assert isinstance(lineage, dg.TableColumnLineageMetadataValue)
    sources = {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage.value.deps_by_column["monetary"]}
    assert sources == {("cleaned_events", "event_type"), ("cleaned_events", "price")}
    assert "last_event_time|cleaned_events: event_time|" in str(event.metadata["column lineage"].value)


def test_files_do_not_contain_declared_sources(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
) -> None:
    lake = Lake(str(ran[0]))
    folder = spark_path(lake.folder(lake.latest("recommendations")).uri)
    assert all(not field.metadata for field in spark.read.parquet(folder).schema.fields)


@pytest.fixture
def sales(spark: SparkSession, tmp_path: Path) -> DataFrame:
    path = str(tmp_path / "sales")
    spark.createDataFrame(
        [(1, "a", 2.0, [1, 2])], "shop bigint, item string, price double, sizes array<int>"
    ).write.parquet(path)
    return spark.read.parquet(path)


@pytest.fixture
def shops(spark: SparkSession, tmp_path: Path) -> DataFrame:
    path = str(tmp_path / "shops")
    spark.createDataFrame([(1, "north")], "shop bigint, region string").write.parquet(path)
    return spark.read.parquet(path)


def sources(frame: DataFrame) -> dict[str, set[str]]:
    def asset_of(path: str) -> tuple[str, str]:
        return path.rstrip("/").rpartition("/")[2], ""

    return {column: set(found) for column, found in trace(frame, asset_of).items()}


def test_joins_filters_and_literals(sales: DataFrame, shops: DataFrame) -> None:
    joined = sales.join(shops, "shop", "left").where("price > 1 and region = 'north'")
    found = sources(joined.select("shop", (F.col("price") * 2).alias("double"), F.lit(1).alias("one"), "region"))
    assert found == {"shop": {"sales.shop"}, "double": {"sales.price"}, "one": set(), "region": {"shops.region"}}


def test_aggregates_and_counts(sales: DataFrame) -> None:
    grouped = sales.groupBy("shop").agg(F.sum("price").alias("sum"), F.count("*").alias("rows"))
    assert sources(grouped) == {"shop": {"sales.shop"}, "sum": {"sales.price"}, "rows": {"sales.shop"}}
    pivoted = sales.groupBy("shop").pivot("item", ["a"]).agg(F.sum("price"))
    assert sources(pivoted) == {"shop": {"sales.shop"}, "a": {"sales.item", "sales.price"}}


def test_windows_have_the_columns_of_their_window(sales: DataFrame) -> None:
    window = Window.partitionBy("shop").orderBy("price")
    assert sources(sales.select(F.row_number().over(window).alias("n"))) == {"n": {"sales.shop", "sales.price"}}


def test_unions_explode_and_distinct_rows(sales: DataFrame, shops: DataFrame) -> None:
    united = (
        sales.select("shop").union(shops.select(F.col("region").cast("bigint"))).distinct().dropDuplicates(["shop"])
    )
    assert sources(united) == {"shop": {"sales.shop", "shops.region"}}
    assert sources(sales.select(F.explode("sizes").alias("size"))) == {"size": {"sales.sizes"}}


def test_a_field_of_a_struct_has_the_sources_of_the_struct(sales: DataFrame) -> None:
    latest = sales.groupBy("shop").agg(F.max(F.struct("price", "item")).alias("top")).select("top.item")
    assert sources(latest) == {"item": {"sales.price", "sales.item"}}, "the price decides which item it is"


def test_a_self_join_and_a_cached_frame(sales: DataFrame) -> None:
    left, right = sales.alias("l").persist(), sales.alias("r")
    both = left.join(right, F.col("l.shop") == F.col("r.shop")).select(F.col("r.item").alias("other"), "l.price")
    assert sources(both) == {"other": {"sales.item"}, "price": {"sales.price"}}
    left.unpersist()


def test_declared_sources_replace_those_that_the_plan_lacks(sales: DataFrame, shops: DataFrame) -> None:
    made = sales.mapInArrow(lambda batches: batches, sales.schema).select("shop", "price")
    assert sources(made) == {"shop": set(), "price": set()}, "the plan ends here"
    marked = made_from(made, {"price": [(sales.withColumn("net", F.col("price") / 2), "net"), (shops, "region")]})
    expected = {"shop": set(), "price": {"sales.price", "shops.region"}}
    assert sources(marked) == expected
    assert sources(marked.select("shop", F.col("price").cast("float").alias("price", metadata={}))) == expected
    assert sources(marked.withColumn("gross", F.col("price") + 1))["gross"] == expected["price"]
    assert sources(made_from(made, {"shop": ["model.part"]}))["shop"] == {"model.part"}


def test_a_source_that_does_not_exist_is_an_error(sales: DataFrame) -> None:
    with pytest.raises(KeyError, match="nett"):
        made_from(sales, {"price": [(sales, "nett")]})
