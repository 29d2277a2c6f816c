"""Previews of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ecommerce_assets.recommendation.previews import list_preview

ABOUT = [
    {"product_id": product, "name": None, "category": "toys", "brand": f"brand {product}", "eligible": True}
    for product in range(100, 120)
]


def shown(rows: Sequence[Mapping[str, Any]], about: Sequence[Mapping[str, Any]], *args: str, **names: str) -> pa.Table:
    def read(asset: str, columns: Sequence[str], wanted: pc.Expression) -> pa.Table:
        assert asset == "product_eligibility"
        return pa.Table.from_pylist([*about]).filter(wanted).select([*columns])

    return list_preview(*args, **names)(pa.Table.from_pylist([*rows]), read)


def test_the_first_three_products_of_four_users_with_category_and_brand() -> None:
    rows = [
        {"user_id": user, "rank": rank, "product_id": 100 + rank, "score": 1 / rank}
        for user in range(6)
        for rank in range(5, 0, -1)
    ]
    preview = shown(rows, ABOUT, "user_id", "product_id")
    assert preview.column_names == ["user_id", "rank", "product_id", "category", "brand", "score"]
    assert [(row["user_id"], row["rank"]) for row in preview.to_pylist()] == [
        (u, r) for u in range(4) for r in (1, 2, 3)
    ]
    assert preview.to_pylist()[1] == {
        "user_id": 0,
        "rank": 2,
        "product_id": 102,
        "category": "toys",
        "brand": "brand 102",
        "score": 0.5,
    }


@pytest.mark.parametrize("name", [None, "bear"])
def test_names_are_shown_if_there_is_a_catalogue(name: str | None) -> None:
    rows = [{"product_id": 100, "kind": "bought", "rank": 1, "pair_product_id": 101}]
    about = [{**row, "name": name} for row in ABOUT]
    preview = shown(rows, about, "product_id", "pair_product_id", names="pair_{}")
    names = [] if name is None else ["pair_name"]
    assert preview.column_names[3:] == ["pair_product_id", *names, "pair_category", "pair_brand"]


def test_a_product_that_nothing_is_known_of_has_no_description() -> None:
    [row] = shown([{"user_id": 1, "rank": 1, "product_id": 7}], ABOUT, "user_id", "product_id").to_pylist()
    assert (row["category"], row["brand"]) == (None, None)


def test_products_without_descriptions_are_shown_by_the_ranks_of_several_lists() -> None:
    rows = [{"product_id": product, "rank": rank, "neighbour_id": 1} for product in range(9) for rank in (1, 2, 3, 4)]
    assert shown(rows, [], "product_id").num_rows == 12
