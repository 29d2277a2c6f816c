"""Checks of tables that hold ranked lists: complete, in order, without repeats, of known and allowed products only.

All of them share one exact pass over the lists, which is part of the table's one query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, Read, Summary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SHORT, UNRANKED, REPEATS, UNKNOWN, RISING, EXCLUDED, INELIGIBLE, CROWDED = (
    f"{what}_lists"
    for what in ("short", "unranked", "repeating", "unknown", "rising", "excluded", "ineligible", "crowded")
)

WITHOUT_CHOICE = "owners_without_choice"
"""Number: owners to whom nothing may be shown, and who have no list."""


@dataclass(frozen=True)
class Lists:
    """Where in a table the lists are.

    Attributes
    ----------
    owner, item, score
        Columns: whose list it is, what it holds, and what must not rise with the `rank`.
    items
        Returns one row per known item, from the other tables: `item`, `number` (bigint, unique), `eligible` (boolean),
        and the columns that `limits` names.
    excluded
        Returns the `owner`, and `excluded`, an array of distinct numbers of eligible items that must not be in the
        list, from the context and the other tables. None: no items are excluded.
    limits
        Returns by column how many items with the same value a list may have, from the context.
    """

    owner: str
    item: str
    score: str
    items: Callable[[Read], DataFrame]
    excluded: Callable[[CheckContext, Read], DataFrame | None]
    limits: Callable[[CheckContext], Mapping[str, int]]


def list_checks(lists: Lists, full: bool = False) -> tuple[Check, ...]:
    """The checks; `full`: a list holds k items (parameter `k`), or all that are eligible where there are fewer."""
    summary = _summary(lists, full)

    def check(name: str, description: str, count: str, what: str) -> Check:
        def test(context: CheckContext) -> Outcome:
            broken = context.number(count)
            counted = f"{broken:,} of {context.number('lists'):,} lists {what}"
            return Outcome(counted if broken else "", checked=counted)

        return Check(name, description, test, summary=summary)

    owner, item = lists.owner, lists.item
    checks = [
        check(
            "unique_key",
            f"There is one row per {owner}, rank, and ranks go from 1 without a gap.",
            UNRANKED,
            "have a rank twice or miss one",
        ),
        check("no_repeats", f"No list has a {item} twice.", REPEATS, f"have a {item} twice"),
        check(
            "known_products",
            f"Every {item} is in product_index or in the catalogue.",
            UNKNOWN,
            "have a product that is in neither product_index nor the catalogue",
        ),
        check(
            "eligible_products",
            f"Every {item} is eligible according to product_eligibility.",
            INELIGIBLE,
            "have a product that is not eligible",
        ),
        check(
            "within_limits",
            "No list has more products of one category or brand than the rules permit.",
            CROWDED,
            "have too many products of a category or brand",
        ),
        check("best_first", f"{lists.score} does not rise with rank.", RISING, f"have a {lists.score} that rises"),
    ]
    checks.append(
        check(
            "nothing_excluded",
            "No list has a product that `exclude` leaves out for its user.",
            EXCLUDED,
            "have a product that is excluded",
        )
    )
    if full:
        checks.append(
            check(
                "full_lists",
                "A list has k products, or all eligible ones if there are fewer; with limits per category or brand, at "
                "most k.",
                SHORT,
                "are shorter or longer",
            )
        )
    return tuple(checks)


def _summary(lists: Lists, full: bool) -> Summary:
    def summary(rows: DataFrame, context: CheckContext, read: Read) -> DataFrame:
        """One row per list first, then how many are broken in which way."""
        from pyspark.sql import functions as F

        items, limits = lists.items(read), lists.limits(context)
        numbers = F.broadcast(items.select(F.col("item").alias(lists.item), "number", "eligible", *limits))
        # Numbers instead of ids: the join tells known from unknown, and what is shuffled is small.
        numbered = rows.select(lists.owner, lists.item, "rank", F.col(lists.score).alias("score")).join(
            numbers, lists.item, "left"
        )
        whole = numbered.groupBy(lists.owner).agg(
            F.array_sort(F.collect_list(F.struct("rank", "score", "number", "eligible", *limits))).alias("list"),
            F.count("number").alias("known"),
        )
        excluded = lists.excluded(context, read)
        if excluded is None:
            whole = whole.withColumn("excluded", F.lit(None).cast("array<bigint>"))
        else:
            whole = whole.join(excluded, lists.owner, "left")
        crowded = [
            f"exists(array_distinct(list.{name}), v -> size(filter(list.{name}, w -> w = v)) > {most})"
            for name, most in limits.items()
        ]
        broken = {
            UNRANKED: "not list.rank <=> sequence(1, size(list))",
            # What is unknown has no number: all of it together counts as one more.
            REPEATS: "size(array_distinct(list.number)) - if(known < size(list), 1, 0) < known",
            UNKNOWN: "known < size(list)",
            RISING: "list.score <> sort_array(list.score, false)",
            EXCLUDED: "coalesce(arrays_overlap(list.number, excluded), false)",
            INELIGIBLE: "array_contains(list.eligible, false)",
            CROWDED: " or ".join(crowded) or "false",
        }
        if full:
            k, eligible = context.parameters["k"], "eligible_items - if(excluded is null, 0, size(excluded))"
            broken[SHORT] = f"size(list) > {k}" if limits else f"size(list) <> least({k}, {eligible})"
        counts = [F.expr(f"count_if({condition})").alias(name) for name, condition in broken.items()]
        eligible_items = items.agg(F.count_if("eligible").alias("eligible_items"))
        counted = whole.crossJoin(eligible_items).agg(F.count("*").alias("lists"), *counts)
        if excluded is None:
            return counted
        without_choice = excluded.crossJoin(eligible_items).agg(
            F.count_if(F.expr("size(excluded) >= eligible_items")).alias(WITHOUT_CHOICE)
        )
        return counted.crossJoin(without_choice)

    return summary
