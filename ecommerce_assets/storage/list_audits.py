"""Audits of tables that hold ranked lists: whole, in order, without repeats, of known products only.

All of them share one exact pass over the lists. Whom a list must not show what, and how long it is, the table says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.audits import Audit, Evidence, Probe, Read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SHORT, UNRANKED, REPEATS, UNKNOWN, RISING, BARRED = (
    f"{what}_lists" for what in ("short", "unranked", "repeating", "unknown", "rising", "barred")
)

BARRED_FROM_ALL = "owners_barred_from_all"
"""Measure: owners to whom nothing may be shown, and who have no list."""


@dataclass(frozen=True)
class Lists:
    """Where in a table the lists are.

    Attributes
    ----------
    owner, item, score
        Columns: whose list it is, what it holds, and what must not rise with the `rank`.
    items
        From the other tables: the items that there are, `item` and `number` (dense, int).
    barred
        From the evidence and the other tables: the `owner`, and `barred`, an array of distinct numbers that must not
        stand in the list. None: nothing is.
    """

    owner: str
    item: str
    score: str
    items: Callable[[Read], DataFrame]
    barred: Callable[[Evidence, Read], DataFrame | None] | None = None


def list_audits(lists: Lists, full: bool = False) -> tuple[Audit, ...]:
    """The audits; `full`: a list holds k items, or all that are not barred where there are fewer.

    What a list must be long is the parameter `k` of the version.
    """
    look = probe_of(lists, full)
    said = f"lists of a {lists.owner}"

    def audit(name: str, description: str, count: str, what: str) -> Audit:
        return Audit(name, description, lambda e: _broken(e, count, f"{said} {what}"), probe=look)

    audits = [
        audit(
            "unique_key",
            f"There is one row per {lists.owner}, rank, and ranks go from 1 without a gap.",
            UNRANKED,
            "have a rank twice or leave one out",
        ),
        audit("no_repeats", f"No list holds a {lists.item} twice.", REPEATS, f"hold a {lists.item} twice"),
        audit(
            "known_products", f"Every {lists.item} is in product_index.", UNKNOWN, "hold a product that no index has"
        ),
        audit("best_first", f"{lists.score} does not rise with rank.", RISING, f"have a {lists.score} that rises"),
    ]
    if lists.barred:
        audits.append(
            audit(
                "nothing_excluded",
                "No list holds a product that `exclude` leaves out for its user.",
                BARRED,
                "hold a product that is excluded",
            )
        )
    if full:
        audits.append(
            audit(
                "full_lists",
                "A list holds k products, or all that the user may be shown where there are fewer.",
                SHORT,
                "are not as long as they should be",
            )
        )
    return tuple(audits)


def _broken(evidence: Evidence, count: str, what: str) -> str | None:
    broken = evidence.measures.get(count) or 0
    return f"{broken:,} of {evidence.measures['lists']:,} {what}" if broken else None


def probe_of(lists: Lists, full: bool) -> Probe:
    """The pass: one row per list, then how many are broken in which way."""

    def look(rows: DataFrame, evidence: Evidence, read: Read) -> DataFrame:
        from pyspark.sql import functions as F

        items = lists.items(read)
        numbers = F.broadcast(items.select(F.col("item").alias(lists.item), "number"))
        # Numbers in place of ids: known or not is told on the way, and what is shuffled is small.
        numbered = rows.select(lists.owner, lists.item, "rank", F.col(lists.score).alias("score")).join(
            numbers, lists.item, "left"
        )
        whole = numbered.groupBy(lists.owner).agg(
            F.array_sort(F.collect_list(F.struct("rank", "score", "number"))).alias("list"),
            F.count("number").alias("known"),
        )
        barred = lists.barred(evidence, read) if lists.barred else None
        if barred is None:
            whole = whole.withColumn("barred", F.lit(None).cast("array<int>"))
        else:
            whole = whole.join(barred, lists.owner, "left")
        broken = {
            UNRANKED: "not list.rank <=> sequence(1, size(list))",
            # What is unknown has no number: all of it together counts as one more.
            REPEATS: "size(array_distinct(list.number)) - if(known < size(list), 1, 0) < known",
            UNKNOWN: "known < size(list)",
            RISING: "list.score <> sort_array(list.score, false)",
            BARRED: "coalesce(arrays_overlap(list.number, barred), false)",
        }
        there = items.count() if full or barred is not None else 0
        if full:
            eligible = f"{there} - if(barred is null, 0, size(barred))"
            broken[SHORT] = f"size(list) <> least({evidence.parameters['k']}, {eligible})"
        counts = [F.expr(f"count_if({condition})").alias(name) for name, condition in broken.items()]
        found = whole.agg(F.count("*").alias("lists"), *counts)
        if barred is None:
            return found.withColumn(BARRED_FROM_ALL, F.lit(0))
        from_all = F.count_if(F.size("barred") >= there)
        return found.crossJoin(barred.agg(from_all.alias(BARRED_FROM_ALL)))

    return look
