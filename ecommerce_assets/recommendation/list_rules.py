"""The shop's rules about the composition of lists: pinned products, limits per category and brand, new products.

`ListRules.of` is the entry point; lists.py applies the rules. product_eligibility.py decides which products may be in
a list at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.recommendation.products import Products, ids_of
from ecommerce_assets.recommendation.recommenders.base import Flags, Integers, Ragged, Users, best_of_sums
from ecommerce_assets.recommendation.recommenders.category_affinity import affinities
from ecommerce_assets.segmentation.naming import ALL_USERS

if TYPE_CHECKING:  # executors import this module and need not have pydantic
    from ecommerce_assets.recommendation.product_rules import ProductRules

UNLIMITED = -1

MORE_CANDIDATES = 200
"""Number of candidates ranked beyond the length of the list if there are limits per category or brand."""

NEWEST = 100
"""Maximum number of new products of each category and brand that are candidates for lists."""

BRAND_WEIGHT = 0.5
"""Weight of the brand in the score of a new product; the category has weight 1."""

ELIGIBILITY = ("product_id", "category", "brand", "in_catalog", "eligible")
"""Columns of product_eligibility that `ListRules.of` reads."""


@dataclass(frozen=True)
class ListRules:
    """The rules for p products; the defaults are no rules. Products are positions.

    Attributes
    ----------
    category, brand
        (p,) number of each product's category and brand; -1: unknown.
    max_per_category, max_per_brand
        Maximum number of products of one category or brand in a list; `UNLIMITED`: no limit.
    pinned
        Positions of the products that come first, by segment; `*` is all users.
    new
        Positions of the eligible products of the catalogue that nobody has interacted with, ascending.
    new_share
        Share of the places of a list for new products, 0 to 1.
    """

    category: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    brand: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    max_per_category: int = UNLIMITED
    max_per_brand: int = UNLIMITED
    pinned: Mapping[str, Integers] = field(default_factory=dict)
    new: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    new_share: float = 0.0

    @classmethod
    def of(cls, rules: ProductRules, eligibility: pa.Table, products: Products, is_new: Flags) -> ListRules:
        """Returns the rules by position, from the rules of the shop.

        Parameters
        ----------
        rules
            The rules of the shop.
        eligibility
            The columns `ELIGIBILITY` of product_eligibility.
        products
            The p products; see `with_catalog`.
        is_new
            (p,) True for products that nobody has interacted with.
        """
        places = products.find(ids_of(eligibility.column("product_id")))
        known = places >= 0

        def numbers(name: str) -> Integers:
            texts = eligibility.column(name).combine_chunks()
            codes = pc.if_else(pc.equal(texts, "unknown"), None, texts).dictionary_encode().indices.fill_null(-1)
            numbers = np.full(len(products.ids), -1, np.int64)
            numbers[places[known]] = codes.to_numpy()[known]
            return numbers

        eligible = flags_of(eligibility, "eligible", products)

        def pinned(ids: Sequence[Any]) -> Integers:
            positions = products.find(np.array(ids, products.ids.dtype))
            positions = positions[positions >= 0]
            return positions[eligible[positions]]

        return cls(
            numbers("category"),
            numbers("brand"),
            rules.max_per_category or UNLIMITED,
            rules.max_per_brand or UNLIMITED,
            {segment: positions for segment, ids in rules.pinned.items() if len(positions := pinned(ids))},
            np.flatnonzero(flags_of(eligibility, "in_catalog", products) & eligible & is_new),
            rules.new_products_share,
        )

    @property
    def has_limits(self) -> bool:
        """Whether the number of products of one category or brand in a list is limited."""
        return self.max_per_category != UNLIMITED or self.max_per_brand != UNLIMITED

    @property
    def change_lists(self) -> bool:
        """Whether lists can differ from the ranking."""
        return self.has_limits or bool(self.pinned) or bool(len(self.new) and self.new_share)

    def candidates(self, k: int) -> int:
        """Returns the number of candidates to rank for lists of k products."""
        return k + MORE_CANDIDATES * self.has_limits + max(map(len, self.pinned.values()), default=0)

    def pinned_for(self, users: Users) -> Integers:
        """Returns the pinned products of each user without those that are excluded: (n, m) positions; -1: empty."""
        of_all = self.pinned.get(ALL_USERS, np.empty(0, np.int64))
        width = max(map(len, self.pinned.values()), default=0) + len(of_all)
        pinned = np.full((len(users), width), -1, np.int64)
        for segment in set(users.segments.tolist()):
            of_segment = np.concatenate([self.pinned.get(segment, of_all[:0]), of_all])
            pinned[users.segments == segment, : len(of_segment)] = of_segment
        owners, excluded = users.excluded.of(np.arange(len(users)))
        first = np.arange(len(users))[:, None] * len(self.category)
        pinned[np.isin(first + pinned, first[owners, 0] + excluded) & (pinned >= 0)] = -1
        return pinned

    def new_for(self, users: Users, k: int) -> Integers:
        """Returns new products of the categories and brands in each user's history, for lists of k products.

        The result has (n, m) positions, m at most k; -1: empty.
        """
        places = int(self.new_share * k + 1e-9)
        if not places or not len(self.new):
            return np.empty((len(users), 0), np.int64)
        parts = [affinities(users, self.category, self._categories), affinities(users, self.brand, self._brands)]
        owners = np.concatenate([np.repeat(np.arange(len(users)), np.diff(part.begins)) for part in parts])
        items = np.concatenate([parts[0].items, parts[1].items + self._categories])
        values = np.concatenate([part.values for part in parts])
        weighted = Ragged.of(owners, items, values, len(users))
        return best_of_sums(users, weighted, self._new_by_group, len(self.category), places).positions

    @property
    def _categories(self) -> int:
        return max(int(self.category.max(initial=-1)) + 1, 1)

    @property
    def _brands(self) -> int:
        return max(int(self.brand.max(initial=-1)) + 1, 1)

    @cached_property
    def _new_by_group(self) -> Ragged:
        """The newest products of each category, then of each brand, with their weights.

        A higher id means a newer product. Newer products have slightly higher weights, which break ties.
        """
        groups, products, values = [], [], []
        for group, first, weight in ((self.category, 0, 1.0), (self.brand, self._categories, BRAND_WEIGHT)):
            newest = self.new[::-1][group[self.new[::-1]] >= 0]
            order = np.argsort(group[newest], kind="stable")
            ordered = group[newest][order]
            place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
            kept = place < NEWEST
            groups.append(ordered[kept] + first)
            products.append(newest[order][kept])
            values.append(weight * (1 - place[kept] * 1e-4))
        count = self._categories + self._brands
        return Ragged.of(np.concatenate(groups), np.concatenate(products), np.concatenate(values), count)


def with_catalog(products: Products, eligibility: pa.Table) -> Products:
    """Returns the products of the index together with those of the catalogue, which have no number."""
    return products.including(ids_of(eligibility.filter(pc.field("in_catalog")).column("product_id")))


def flags_of(eligibility: pa.Table, name: str, products: Products) -> Flags:
    """Returns a Boolean column of product_eligibility by position, (p,); False for products without a row."""
    places = products.find(ids_of(eligibility.column("product_id")))
    flags = np.zeros(len(products.ids), np.bool_)
    flags[places[places >= 0]] = eligibility.column(name).to_numpy()[places >= 0]
    return flags
