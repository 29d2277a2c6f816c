"""Which products of their history users are not recommended."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn


class Exclude(StrEnum):
    """Products that a user is not recommended."""

    purchased = "purchased"
    seen = "seen"
    none = "none"


def is_excluded(exclude: Exclude) -> SparkColumn:
    """Of a pair in interaction_data: whether the user must not be recommended the product."""
    from pyspark.sql import functions as F

    return {Exclude.purchased: F.col("purchases") > 0, Exclude.seen: F.lit(True), Exclude.none: F.lit(False)}[exclude]
