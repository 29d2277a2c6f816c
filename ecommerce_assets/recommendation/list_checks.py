"""Checks of tables that hold ranked lists: complete, in order, without repeats, of known and allowed products only.

All of them share one exact pass over the lists, which is part of the table's one query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import Check, CheckContext, Read, Summary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SHORT, UNRANKED, REPEATS, UNKNOWN, RISING, EXCLUDED = (
    f"{what}_lists" for what in ("short", "unranked", "repeating", "unknown", "rising", "excluded")
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
        From the other tables: all items, `item` and `number` (dense, int).
    item_count
        Number of all items.
    excluded
        From the context and the other tables: the `owner`, and `excluded`, an array of distinct numbers that must not
        be in the list. None: nothing is.
    """

    owner: str
    item: str
    score: str
    items: Callable[[Read], DataFrame]
    item_count: Callable[[CheckContext], int]
    excluded: Callable[[CheckContext, Read], DataFrame | None] | None = None


def list_checks(lists: Lists, full: bool = False) -> tuple[Check, ...]:
    """The checks; `full`: a list holds k items (parameter `k`), or all that are eligible where there are fewer."""
    summary = _summary(lists, full)

    def check(name: str, description: str, count: str, what: str) -> Check:
        def test(context: CheckContext) -> str | None:
            broken = context.number(count)
            return f"{broken:,} of {context.number('lists'):,} lists {what}" if broken else None

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
        check("known_products", f"Every {item} is in product_index.", UNKNOWN, "have a product that is in no index"),
        check("best_first", f"{lists.score} does not rise with rank.", RISING, f"have a {lists.score} that rises"),
    ]
    if lists.excluded:
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
                "A list has k products, or all eligible ones where there are fewer.",
                SHORT,
                "are shorter or longer",
            )
        )
    return tuple(checks)


def _summary(lists: Lists, full: bool) -> Summary:
    def summary(rows: DataFrame, context: CheckContext, read: Read) -> DataFrame:
        """One row per list first, then how many are broken in which way."""
        from pyspark.sql import functions as F

        numbers = F.broadcast(lists.items(read).select(F.col("item").alias(lists.item), "number"))
        # Numbers instead of ids: the join tells known from unknown, and what is shuffled is small.
        numbered = rows.select(lists.owner, lists.item, "rank", F.col(lists.score).alias("score")).join(
            numbers, lists.item, "left"
        )
        whole = numbered.groupBy(lists.owner).agg(
            F.array_sort(F.collect_list(F.struct("rank", "score", "number"))).alias("list"),
            F.count("number").alias("known"),
        )
        excluded = lists.excluded(context, read) if lists.excluded else None
        if excluded is None:
            whole = whole.withColumn("excluded", F.lit(None).cast("array<int>"))
        else:
            whole = whole.join(excluded, lists.owner, "left")
        broken = {
            UNRANKED: "not list.rank <=> sequence(1, size(list))",
            # What is unknown has no number: all of it together counts as one more.
            REPEATS: "size(array_distinct(list.number)) - if(known < size(list), 1, 0) < known",
            UNKNOWN: "known < size(list)",
            RISING: "list.score <> sort_array(list.score, false)",
            EXCLUDED: "coalesce(arrays_overlap(list.number, excluded), false)",
        }
        items = lists.item_count(context)
        if full:
            eligible = f"{items} - if(excluded is null, 0, size(excluded))"
            broken[SHORT] = f"size(list) <> least({context.parameters['k']}, {eligible})"
        counts = [F.expr(f"count_if({condition})").alias(name) for name, condition in broken.items()]
        found = whole.agg(F.count("*").alias("lists"), *counts)
        if excluded is None:
            return found
        return found.crossJoin(excluded.agg(F.count_if(F.size("excluded") >= items).alias(WITHOUT_CHOICE)))

    return summary
