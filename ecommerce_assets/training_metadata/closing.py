"""The last words of a run, for its log: what was made, where it lies, how good it is and what to do next.

The numbers come from the document; the whole of it for people is card.py's business.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from ecommerce_assets.settings import DATA_DIR, SAMPLE_DATA_DIR
from ecommerce_assets.training_metadata.card import how_good
from ecommerce_assets.training_metadata.document import TrainingMetadata


def closing_words(document: Mapping[str, Any], lake: str) -> str:
    """Five lines, of the document as written; `lake` is the folder that holds the assets."""
    told = TrainingMetadata.model_validate(document)
    lists = told.recommendations
    days = f" of {told.data.days:,} day{'s' * (told.data.days > 1)} to {told.data.last_day}" if told.data.days else ""
    version = told.versions["recommendations"].version
    warnings = ", ".join(f"{c.asset} {c.check}" for c in told.failed_checks)
    lines = [
        "Done.",
        f"  Made       {lists.entries:,} recommendations for {lists.users:,} users in {told.segments_count} segments, "
        f"and {told.similar_products.entries:,} similar products, from {told.total_interactions:,} events{days}",
        f"  Stored in  {lake}, a folder per asset; the lists are version {version} of the table recommendations",
        *_how_good(told),
        *([f"  Look at    the warnings of {warnings}"] if warnings else []),
        *_next(lake.removesuffix("/lake")),
    ]
    return "\n".join(lines)


def _how_good(told: TrainingMetadata) -> list[str]:
    hits = told.evaluation.metrics.get("hit_rate", {})
    if not hits:
        return [f"  How good   {how_good(told)}"]
    k = told.list_length
    published, popularity = (f"{hits[system][0] or 0:.1%}" for system in ("published", "popularity"))
    users = f"{told.evaluation.holdout_users:,} users"
    return [
        f"  How good   {published} of {users} went for one of the {k} products in their list, in the time held out; "
        f"{popularity} for one of the {k} most popular",
        f"             {how_good(told)}",
    ]


def _next(data_dir: str) -> list[str]:
    """Commands that find this shop and this history also from a shell that knows of neither."""
    shop = "" if data_dir == SAMPLE_DATA_DIR else f"{DATA_DIR}={shlex.quote(data_dir)} "
    home = f"DAGSTER_HOME={shlex.quote(os.environ['DAGSTER_HOME'])} " if os.environ.get("DAGSTER_HOME") else ""
    return [
        f"  Next       {home}{shop}uv run dagster dev",
        "             shows it in the browser;",
        f"             {shop}uv run python -m ecommerce_assets.lookup user",
        "             what one customer gets",
    ]
