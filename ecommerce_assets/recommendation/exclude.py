"""`Exclude`: which products of a user's history are not recommended."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn


class Exclude(StrEnum):
    """Products of the history that are not recommended: purchased ones, all (`seen`), or none."""

    purchased = "purchased"
    seen = "seen"
    none = "none"


def is_excluded(exclude: Exclude) -> SparkColumn:
    """Returns a condition on rows of interaction_data: True if the product must not be recommended to the user."""
    from pyspark.sql import functions as F

    return {Exclude.purchased: F.col("purchases") > 0, Exclude.seen: F.lit(True), Exclude.none: F.lit(False)}[exclude]
