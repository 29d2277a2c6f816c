"""Lookup in the tables of a whole graph: values equal those that Polars reads, and examples can be looked up."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ecommerce_assets.lookup.products import find_product
from ecommerce_assets.lookup.users import MAX_EVENTS, find_user
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.command import call

Ran = tuple[Path, dg.ExecuteInProcessResult]


def test_recommendations_and_events_are_those_of_the_tables(ran: Ran) -> None:
    lake = Lake(str(ran[0]))
    lists, events, products = (
        pl.read_delta(f"{ran[0]}/lake/{asset}") for asset in ("recommendations", "cleaned_events", "product_features")
    )
    counts = events["user_id"].value_counts().sort("count", "user_id")["user_id"].to_list()
    for user_id in {*counts[:2], *counts[:: len(counts) // 4], *counts[-2:]}:
        answer = find_user(lake, str(user_id))
        entries = lists.filter(pl.col("user_id") == user_id).sort("rank")
        assert [tuple(row.values()) for row in answer.recommendations] == entries.join(
            products, "product_id", maintain_order="left"
        ).select(
            *("rank", "product_id", pl.lit(None).alias("name"), "category", "brand", "avg_price", "score", "source"),
            *("because_product_id", pl.lit(None).alias("because_name")),
        ).rows()
        of_user = events.filter(pl.col("user_id") == user_id).sort("event_time", descending=True)
        assert [row["event_time"] for row in answer.history] == of_user["event_time"].head(MAX_EVENTS).to_list()
        shown = {(e["event_time"], e["product_id"], e["event_type"], e["price"]) for e in answer.history}
        assert shown <= set(of_user.select("event_time", "product_id", "event_type", "price").rows())
        assert answer.features is not None
        assert " user" in answer.features["description"]
        assert (answer.days, answer.newest_day) == (("2019-10-01", "2019-10-08"), "2019-10-08")
        assert answer.versions["recommendations"]["version"] == lake.latest("recommendations").version


def test_features_and_similar_products_are_those_of_the_tables(ran: Ran) -> None:
    lake = Lake(str(ran[0]))
    similar, features = (pl.read_delta(f"{ran[0]}/lake/{asset}") for asset in ("similar_products", "product_features"))
    prices = dict(features.select("product_id", "avg_price").iter_rows())
    ids = sorted(prices)
    for product_id in ids[:: len(ids) // 6]:
        answer = find_product(lake, str(product_id))
        assert answer.features == features.filter(pl.col("product_id") == product_id).row(0, named=True)
        neighbours = similar.filter(pl.col("product_id") == product_id).sort("rank").iter_rows(named=True)
        assert answer.neighbours == [
            {
                "rank": row["rank"],
                "product_id": row["similar_product_id"],
                "name": None,
                "category": row["similar_category"],
                "brand": row["similar_brand"],
                "price": prices[row["similar_product_id"]],
                "similarity": row["similarity"],
            }
            for row in neighbours
        ]
        assert bool(answer.notes) == (not answer.neighbours)


def test_without_an_id_the_users_and_products_with_the_most_purchases_are_listed(
    capsys: pytest.CaptureFixture[str], ran: Ran
) -> None:
    def run(*arguments: str) -> str:
        assert call("lookup", *arguments, "--data-dir", str(ran[0])) == 0
        return capsys.readouterr().out

    for kind, asset, column in (
        ("user", "segmented_users", "purchases"),
        ("product", "product_features", "total_purchases"),
    ):
        printed = run(kind)
        assert printed.endswith(f"Look one up: uv run ecommerce-assets lookup {kind} ID\n")
        first = printed.splitlines()[2].split()[0]
        assert run(kind, first).splitlines()[0] == f"{kind.capitalize()} {first}"
        examples = json.loads(run(kind, "--json"))
        assert str(examples[0][f"{kind}_id"]) == first
        rows = pl.read_delta(f"{ran[0]}/lake/{asset}").sort(column, descending=True).head(5)
        assert [row[column] for row in examples] == rows[column].to_list()
