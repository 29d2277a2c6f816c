"""The assets user_features and product_features. How they are computed stands in the file of each table's name."""

import dagster as dg
from pyspark.sql import DataFrame

from ecommerce_assets.features.product_features import build_product_features
from ecommerce_assets.features.user_features import build_user_features, reference_time
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.storage.artifact import Artifact

GROUP = "features"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"spark", "parquet"},
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def user_features(cleaned_events: DataFrame) -> Artifact:
    """Recency, frequency, monetary value and behaviour of each user, over all events that are read."""
    reference = reference_time(cleaned_events)
    facts = {"reference_date": reference.isoformat() if reference else None}
    return Artifact(build_user_features(cleaned_events, reference), facts=facts)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"spark", "parquet"},
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def product_features(cleaned_events: DataFrame) -> Artifact:
    """Views, carts, purchases, revenue, category and brand of each product, over all events that are read."""
    return Artifact(build_product_features(cleaned_events))
